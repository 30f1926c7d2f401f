"""A world in one process and one thread, where real nodes run and one seed decides everything that happens."""
