"""The miner: a process of its own that trains, mines tickets and opens challenges, as a client of its node's RPC."""
