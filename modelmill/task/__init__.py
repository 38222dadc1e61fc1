"""Tasks: what a model is for, how its outputs are taught, decoded and named."""
