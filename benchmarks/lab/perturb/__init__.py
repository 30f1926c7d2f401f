"""Real nodes in real processes, disturbed as a manifest says, and judged by whether they end on one chain."""
