"""The onnxruntime session, and rows to tensors and back: for evaluation, service, load and parity checks."""
