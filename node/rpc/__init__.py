"""JSON-RPC 2.0: one registry of typed methods, the server and the clients made from it."""
