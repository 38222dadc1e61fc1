"""Metrics: figures of quality that can be computed in parts and merged."""
