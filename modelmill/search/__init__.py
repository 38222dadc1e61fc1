"""Searches a space of candidates for the ones that are good enough and cheap, and keeps a ledger of all of them."""
