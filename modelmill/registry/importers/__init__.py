"""Importers: models made elsewhere, read without running code of theirs."""
