"""A node's database from outside of a running node: verified, exported, imported."""
