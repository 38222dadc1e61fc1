"""Averages: of weights of several versions, of answers over a series."""
