"""Quantization: 8-bit integers instead of floats."""
