"""A campaign that breaks real nodes: each part by name with a count and a seed, and a page of what was reached."""
