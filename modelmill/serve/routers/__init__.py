"""Ways to pick the version that answers a request for NAME alone, a file each."""
