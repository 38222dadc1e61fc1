"""ONNX files: our own bodies written out, merged, cleaned, digested and described."""
