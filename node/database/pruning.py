"""Old blocks forgotten, with the block data that came for their sake: a node needs of the past its headers and a state.

Whatever a kept block names stays, and what it takes to follow any branch that can be joined. What is left is what a
node has that started from a state: it validates, mines and proves accounts, and has no older block to show.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from chain.block import get_sidecar_hashes
from chain.primitives import Hash
from chain.storage.leveldb import LevelDb
from consensus.header_chain import ChainEntry
from consensus.side_branches import list_beside
from node.chain import REORG_BLOCKS, Chain
from node.data_directory import DataDirectory
from node.database.export_folder import OnProgress
from node.database.exporting import get_needed_blobs

BATCH_BLOCKS = 64
"""Forgotten in one write. A death between it and the end of its files leaves those of so many blocks behind."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much was forgotten, and the height of the first block that is left."""

    blocks: int
    blobs: int
    first_block: int


def prune_blocks(chain: Chain, kept: int, on_progress: OnProgress) -> Pruned:
    """Forget all blocks but the last `kept`, or those that a reorganisation may take back; raises StorageError."""
    first = chain.store.get_base_height()
    end = max(first, chain.head.height - max(kept, REORG_BLOCKS))
    named, blobs = _list_named(chain, end, on_progress) if first < end else set[Hash](), 0
    for start in range(first, end, BATCH_BLOCKS):
        last = min(start + BATCH_BLOCKS, end)
        blocks = chain.store.forget_blocks(last)
        unnamed = {name for block in blocks for name in get_sidecar_hashes(block)} - named
        for name in sorted(filter(chain.has_sidecar, unnamed)):
            chain.blobs.delete(name)
            blobs += 1
        on_progress("forgotten", last - first, end - first)
    return Pruned(end - first, blobs, end + 1)


def release_room(directory: DataDirectory) -> None:
    """Have a closed database give back to the disk what was forgotten; raises StorageError."""
    engine = LevelDb(directory.database_path)
    try:
        engine.compact()
    finally:
        engine.close()


def _list_named(chain: Chain, end: int, on_progress: OnProgress) -> set[Hash]:
    """Return the blobs that are needed once no block is left up to height `end`."""
    ways = [chain.head.get_ancestor(height) for height in range(end + 1, chain.head.height + 1)]
    # What settles, or is disputed, in a block that may be taken back was perhaps committed in one that may not.
    oldest = next(entry for entry in _list_recent(chain) if chain.store.is_state_kept(entry.height))
    named = {*get_needed_blobs(chain.ledger_context, chain.view(oldest))}
    beside = list_beside(chain.headers, (chain.head,))
    for number, entry in enumerate((*ways, *beside)):
        block = chain.store.get_block(entry.hash)
        named.update(() if block is None else get_sidecar_hashes(block))
        on_progress("kept", number + 1, len(ways) + len(beside))
    return named


def _list_recent(chain: Chain) -> Iterator[ChainEntry]:
    """Yield the blocks whose states may be kept, oldest first."""
    return map(chain.head.get_ancestor, range(chain.head.height - REORG_BLOCKS, chain.head.height + 1))
