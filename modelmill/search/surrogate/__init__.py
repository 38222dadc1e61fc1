"""Models of what the trials came to, and where they promise most."""
