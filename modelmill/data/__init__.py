"""Rows in: sources, type inference, splits, checks and the data card."""
