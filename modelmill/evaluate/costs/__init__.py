"""What a served model costs, one method a file, measured on ONNX Runtime itself."""
