"""What the Open Inference Protocol says on the wire, for both sides: the messages of gRPC."""
