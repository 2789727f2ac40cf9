"""The ledger: every line of SQL in the project."""
