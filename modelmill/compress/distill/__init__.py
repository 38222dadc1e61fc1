"""Distillation: a smaller student learns from the model."""
