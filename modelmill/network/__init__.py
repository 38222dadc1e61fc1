"""What networks are made of: our own torch modules, how cells are wired, and how channels are cut out."""
