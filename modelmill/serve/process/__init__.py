"""Several processes that serve one port: who they are, and who looks after them."""
