"""Which block to believe: difficulty, header rules, tickets, fork choice. Pure."""
