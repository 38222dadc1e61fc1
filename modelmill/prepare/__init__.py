"""Preparation: from raw columns to features, fitted on training rows, then part of the served graph."""
