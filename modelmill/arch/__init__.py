"""What shape of model is trained: the untrained bodies."""
