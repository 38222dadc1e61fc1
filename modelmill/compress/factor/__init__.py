"""Factoring: a layer is replaced by thinner ones whose product is nearly the same."""
