"""One database and one blob folder, under the ledger, the registry and whatever else must last."""
