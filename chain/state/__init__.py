"""The state: a compact sparse Merkle tree over keys and values, and typed views of it."""
