"""The service over gRPC: messages, methods, and the front that carries them."""
