"""Pruning: parts of a network are removed, and the rest is retrained."""
