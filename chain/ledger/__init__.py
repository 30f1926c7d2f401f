"""The ledger: what transactions, blocks and rounds do to the state."""
