"""The composition root: wires the rooms together, owns tasks, processes and sockets."""
