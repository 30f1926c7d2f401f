"""How a node shows what it does: its journal, its metrics, its health. Nothing of the node depends on being watched."""
