"""A development network on one machine: real nodes and miners as processes, watched and checked at the end."""
