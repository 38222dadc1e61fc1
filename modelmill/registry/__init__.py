"""Versions of models: published whole or not at all, numbered, verified, promoted and rolled back."""
