"""Generators: how architectures are drawn."""
