"""Ways to tell a window of values from a reference, a file each."""
