"""Where the chain is kept: LevelDB for headers, blocks and state, files for block data and checkpoints."""
