"""Parties on a real network of processes, and their balances derived again from nothing but its blocks."""
