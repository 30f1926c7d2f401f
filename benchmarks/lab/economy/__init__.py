"""The economy under random histories: a real ledger, and books that are kept beside it in plain numbers."""
