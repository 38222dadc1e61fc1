"""Compression: models in, smaller or faster models out."""
