"""What comes in: images are cleaned or made smaller in the graph, before the body."""
