"""Samplers: how the next candidate is picked."""
