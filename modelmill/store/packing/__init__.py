"""The stored form of files: fewer bytes, from which the very same bytes come back."""
