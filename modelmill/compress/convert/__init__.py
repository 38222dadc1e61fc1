"""Conversion of bodies to ONNX graphs."""
