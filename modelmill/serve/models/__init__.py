"""What is served: versions in memory, and the names that lead to them."""
