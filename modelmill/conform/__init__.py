"""Checks any server against the Open Inference Protocol, from outside."""
