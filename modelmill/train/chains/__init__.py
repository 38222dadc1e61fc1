"""Markov chains over the weights of a network: how they walk, what is kept of them, and what comes of it."""
