"""Looks at the data before any training: a file a check."""
