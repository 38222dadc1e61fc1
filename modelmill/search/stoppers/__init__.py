"""Stoppers: when a trial is not worth finishing."""
