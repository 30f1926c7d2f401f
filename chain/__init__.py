"""What a block means: records, ledger, state tree and storage. Imports no other room."""
