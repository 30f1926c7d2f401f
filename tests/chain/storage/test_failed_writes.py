"""A write that fails, at any site: what was there stays readable, nothing is written behind it, a restart goes on.

The engine refuses the write as LevelDB does on a full disk, before any of it is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from chain.errors import StorageError
from chain.primitives import Hash
from chain.state.snapshot import iter_chunks, verify_chunk
from chain.state.tree import MemoryNodes, get_value, iter_leaves
from chain.storage.block_store import BlockStore, PrunedState
from chain.storage.engine import Changes, CorruptDatabase
from chain.storage.snapshot_import import SnapshotImport
from tests.support.store import CONTEXT, GENESIS_UPDATE, BlockMaker, MemoryEngine, StoredBlock

NAME = Hash(b"\x07" * 32)


@dataclass
class FullEngine:
    """Rows in memory that take so many writes and no more."""

    writes_left: int
    rows: MemoryEngine = field(default_factory=MemoryEngine)
    place: str = "full"

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def iter_rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.rows.iter_rows(prefix)

    def write(self, changes: Changes) -> None:
        if not self.writes_left:
            raise StorageError("full: cannot be written: No space left on device")
        self.writes_left -= 1
        self.rows.write(changes)

    def close(self) -> None:
        self.rows.close()


MAKER = BlockMaker()
TRUNK = MAKER.make_branch(MAKER.headers.genesis, 4)
LEFT, RIGHT = MAKER.make_branch(TRUNK[-1].entry, 2), MAKER.make_branch(TRUNK[-1].entry, 3, salt=1)


def run_history(store: BlockStore) -> None:
    """Grow a trunk, keep a side block, change the branch, prune; go on where the store is."""
    if store.is_empty():
        store.initialise(CONTEXT.chain_id, MAKER.genesis_header, GENESIS_UPDATE.nodes)
    for stored in TRUNK + LEFT:
        if store.get_tip().height < stored.entry.height:
            store.commit([], [stored.connected])
    if not store.has_block(RIGHT[0].entry.hash):
        store.put_block(RIGHT[0].entry.hash, RIGHT[0].block)
    if store.get_tip().hash != RIGHT[-1].entry.hash:
        store.commit([stored.block for stored in reversed(LEFT)], [stored.connected for stored in RIGHT])


def count_writes() -> int:
    engine = FullEngine(1_000)
    run_history(BlockStore(engine, 2))
    return 1_000 - engine.writes_left


@pytest.mark.parametrize("number", range(count_writes()))
def test_a_block_store_stops_at_any_write_and_goes_on_after_a_restart(number: int) -> None:
    whole, engine = MemoryEngine(), FullEngine(number)
    run_history(BlockStore(whole, 2))
    store = BlockStore(engine, 2)
    with pytest.raises(StorageError, match="No space left"):
        run_history(store)
    before = dict(engine.rows.rows)
    engine.writes_left = 1_000
    with pytest.raises(StorageError, match="until a restart"):
        store.put_block(LEFT[0].entry.hash, LEFT[0].block)
    assert engine.rows.rows == before, "nothing is written behind a write that failed"
    if number:
        tip = store.get_header(store.get_tip().hash)
        assert tip is not None
        assert get_value(store, tip.foliage.state_root, b"genesis") == b"state"
    again = BlockStore(engine.rows, 2)
    run_history(again)
    again.validate(CONTEXT.chain_id)
    assert engine.rows.rows == whole.rows, "and all is as if nothing had failed"


def run_import(engine: FullEngine | MemoryEngine, source: MemoryNodes, base: StoredBlock) -> None:
    root = base.block.header.foliage.state_root
    snapshot = SnapshotImport(engine, NAME)
    for number, chunk in enumerate(iter_chunks(source, root)):
        if not snapshot.has_chunk(number):
            snapshot.put_chunk(number, verify_chunk(root, chunk))
    snapshot.finish(CONTEXT.chain_id, [MAKER.genesis_header, *(stored.block.header for stored in TRUNK)])


def collect_nodes() -> MemoryNodes:
    nodes = MemoryNodes(GENESIS_UPDATE.nodes)
    for stored in TRUNK:
        nodes.add(stored.nodes)
    return nodes


@pytest.mark.parametrize("number", range(4))
def test_an_import_stops_at_any_write_and_goes_on_after_a_restart(number: int) -> None:
    engine, nodes, base = FullEngine(number), collect_nodes(), TRUNK[-1]
    with pytest.raises(StorageError, match="No space left"):
        run_import(engine, nodes, base)
    with pytest.raises(CorruptDatabase, match="found no tip"):
        BlockStore(engine.rows).get_tip()
    if number:
        with pytest.raises(StorageError, match="another import half done"):
            SnapshotImport(engine.rows, Hash(bytes(32)))
    run_import(engine.rows, nodes, base)
    with pytest.raises(StorageError, match="expected none to import into"):
        SnapshotImport(engine.rows, NAME)
    store = BlockStore(engine.rows)
    store.validate(CONTEXT.chain_id)
    assert (store.get_base_height(), store.get_tip().height) == (4, 4)
    assert [store.is_state_kept(height) for height in range(6)] == [False] * 4 + [True, False]
    for stored in LEFT:
        store.commit([], [stored.connected])
    store.commit([stored.block for stored in reversed(LEFT)], [stored.connected for stored in RIGHT])
    store.validate(CONTEXT.chain_id)
    root = RIGHT[-1].block.header.foliage.state_root
    expected = collect_nodes()
    for stored in RIGHT:
        expected.add(stored.nodes)
    assert list(iter_leaves(store, root)) == list(iter_leaves(expected, root))
    below = MAKER.make_branch(TRUNK[-2].entry, 5, salt=2)
    left = [stored.block for stored in (*reversed(RIGHT), TRUNK[-1])]
    with pytest.raises(PrunedState):
        store.commit(left, [stored.connected for stored in below])
