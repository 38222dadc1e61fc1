"""The stage that answers requests: one port, the Open Inference Protocol, plain JSON, metrics and documents."""
