"""The ledger: every trial of every search in the database, who writes it, and those who read it."""
