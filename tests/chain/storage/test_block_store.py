"""The store in one process: what a commit and a reorg leave behind, and what is refused with one clear line."""

import os
import subprocess
import sys
from pathlib import Path

import plyvel
import pytest

from chain.errors import StorageError
from chain.primitives import ZERO_HASH, Hash
from chain.state.tree import get_value, iter_leaves
from chain.storage.block_store import BlockStore, open_block_store
from chain.storage.engine import CorruptDatabase
from chain.transaction import compute_transaction_hash
from tests.support.store import GENESIS_UPDATE, BlockMaker, StoredBlock, open_started

OPENER = """
import sys
from pathlib import Path
from chain.storage.block_store import open_block_store
open_block_store(Path(sys.argv[1]))
"""


def commit(store: BlockStore, *blocks: StoredBlock, leave: tuple[StoredBlock, ...] = ()) -> None:
    store.commit([stored.block for stored in leave], [stored.connected for stored in blocks])


def test_what_is_committed_is_read_back_after_reopening(tmp_path: Path) -> None:
    maker = BlockMaker()
    blocks = maker.make_branch(maker.headers.genesis, 5)
    with open_started(tmp_path / "db") as store:
        for stored in blocks:
            commit(store, stored)
    with open_started(tmp_path / "db") as store:
        assert (store.get_tip().height, store.get_tip().generation) == (5, 5)
        assert [header.height for header in store.iter_headers()] == [1, 2, 3, 4, 5]
        for stored in blocks:
            block_hash = stored.entry.hash
            assert store.get_block(block_hash) == stored.block
            assert store.get_header(block_hash) == stored.block.header
            assert store.get_hash_at_height(stored.entry.height) == block_hash
            assert store.get_transaction_block(compute_transaction_hash(stored.block.transactions[0])) == block_hash
            root = stored.block.header.foliage.state_root
            assert get_value(store, root, b"genesis") == b"state"
            assert len(list(iter_leaves(store, root))) == 1 + 2 * stored.entry.height
        assert store.get_block(ZERO_HASH) is None
        assert store.get_hash_at_height(6) is None


def test_a_reorg_moves_the_indexes_and_keeps_both_branches(tmp_path: Path) -> None:
    maker = BlockMaker()
    trunk = maker.make_branch(maker.headers.genesis, 3)
    old, new = maker.make_branch(trunk[-1].entry, 3), maker.make_branch(trunk[-1].entry, 2, salt=1)
    with open_started(tmp_path / "db") as store:
        for stored in trunk + old:
            commit(store, stored)
        store.put_block(new[0].entry.hash, new[0].block)
        commit(store, *new, leave=tuple(reversed(old)))
        assert store.get_tip().hash == new[-1].entry.hash
        heights = [store.get_hash_at_height(height) for height in range(1, 7)]
        assert heights == [stored.entry.hash for stored in trunk + new] + [None]
        for stored in old:
            assert store.get_transaction_block(compute_transaction_hash(stored.block.transactions[0])) is None
            assert store.get_block(stored.entry.hash) == stored.block
            assert list(iter_leaves(store, stored.block.header.foliage.state_root))
    with open_started(tmp_path / "db") as store:
        assert store.get_tip().generation == 7
        assert len(list(store.iter_headers())) == 8


def test_a_transaction_on_both_branches_points_to_the_new_one(tmp_path: Path) -> None:
    maker = BlockMaker()
    old, new = maker.make(maker.headers.genesis), maker.make(maker.headers.genesis, salt=3)
    with open_started(tmp_path / "db") as store:
        commit(store, old)
        store.commit([old.block], [new.connected])
        assert store.get_transaction_block(compute_transaction_hash(new.block.transactions[0])) == new.entry.hash


def test_a_second_opener_is_refused_here_and_from_another_process(tmp_path: Path) -> None:
    path = tmp_path / "blocks"
    other = [sys.executable, "-c", OPENER, str(path)]
    with open_started(path):
        with pytest.raises(StorageError, match="in use") as caught:
            open_block_store(path)
        assert "\n" not in str(caught.value)
        # A refusal must not shake the lock, as closing a second descriptor of LevelDB's own lock file would.
        done = subprocess.run(other, capture_output=True, text=True, check=False)
        assert "in use by another process" in done.stderr
    open_started(path).close()


def test_trouble_in_a_path_called_lock_is_not_taken_for_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("a file where the database should be")
    with pytest.raises(StorageError) as caught:
        open_block_store(path)
    assert "in use" not in str(caught.value)
    assert not str(caught.value).startswith("b'")


def test_another_network_is_refused(tmp_path: Path) -> None:
    open_started(tmp_path / "db").close()
    with open_block_store(tmp_path / "db") as store, pytest.raises(CorruptDatabase, match="found network"):
        store.validate(Hash(b"\x01" * 32))


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Path, list[StoredBlock]]:
    maker = BlockMaker()
    blocks = maker.make_branch(maker.headers.genesis, 6)
    with open_started(tmp_path / "db") as store:
        for stored in blocks:
            commit(store, stored)
    return tmp_path / "db", blocks


def find_keys(path: Path, prefix: bytes) -> list[bytes]:
    database = plyvel.DB(str(path))
    keys = list(database.iterator(prefix=prefix, include_value=False))
    database.close()
    return keys


@pytest.mark.parametrize("prefix", [b"tip", b"chain", b"h", b"b", b"n", b"g"])
def test_any_lost_row_of_the_last_blocks_is_seen(filled: tuple[Path, list[StoredBlock]], prefix: bytes) -> None:
    path, _ = filled
    for key in find_keys(path, prefix):
        database = plyvel.DB(str(path))
        value = database.get(key)
        database.delete(key)
        database.close()
        with pytest.raises(CorruptDatabase):
            open_started(path)
        database = plyvel.DB(str(path))
        database.put(key, value[:-1] + bytes([value[-1] ^ 1]))
        database.close()
        with pytest.raises(CorruptDatabase):
            open_started(path)
        database = plyvel.DB(str(path))
        database.put(key, value)
        database.close()
    open_started(path).close()


def test_a_lost_state_root_is_seen(filled: tuple[Path, list[StoredBlock]]) -> None:
    path, blocks = filled
    for root in [GENESIS_UPDATE.root, *(stored.block.header.foliage.state_root for stored in blocks)]:
        database = plyvel.DB(str(path))
        value = database.get(b"s" + root)
        database.delete(b"s" + root)
        database.close()
        with pytest.raises(CorruptDatabase, match="state"):
            open_started(path)
        database = plyvel.DB(str(path))
        database.put(b"s" + root, value)
        database.close()


def test_a_state_node_swapped_for_another_is_seen(filled: tuple[Path, list[StoredBlock]]) -> None:
    path, blocks = filled
    roots = [stored.block.header.foliage.state_root for stored in blocks[:2]]
    with open_block_store(path) as store:
        other = store._rows.get(b"s" + roots[1])
        store._rows.write({b"s" + roots[0]: other})
    with pytest.raises(CorruptDatabase, match="other bytes"):
        open_started(path)


def test_a_block_swapped_for_another_is_seen(filled: tuple[Path, list[StoredBlock]]) -> None:
    path, blocks = filled
    with open_block_store(path) as store:
        store.put_block(blocks[3].entry.hash, blocks[2].block)
    with pytest.raises(CorruptDatabase, match="height 4"):
        open_started(path)


def test_a_header_without_its_parent_is_refused(filled: tuple[Path, list[StoredBlock]]) -> None:
    path, blocks = filled
    with open_block_store(path) as store:
        store._rows.write({b"h" + blocks[1].entry.hash: None})
        with pytest.raises(CorruptDatabase, match="parent"):
            list(store.iter_headers())


def test_a_missing_current_does_not_start_a_new_database(filled: tuple[Path, list[StoredBlock]]) -> None:
    path, _ = filled
    (path / "CURRENT").unlink()
    with pytest.raises(CorruptDatabase, match="CURRENT"):
        open_block_store(path)


def test_after_a_failed_write_nothing_more_is_written(tmp_path: Path) -> None:
    # A limit on file size makes the system refuse the write as a full disk does.
    code = """
import resource, sys
from pathlib import Path
from chain.errors import StorageError
from tests.support.store import *
maker = BlockMaker(value_bytes=20_000)
blocks = maker.make_branch(maker.headers.genesis, 60)
store = open_started(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
written = 0
try:
    for stored in blocks:
        store.commit([], [stored.connected])
        written += 1
except StorageError as error:
    print("refused", written, error)
assert store.get_tip().height == written, "the head moved without its block"
try:
    store.commit([], [blocks[written].connected])
except StorageError as error:
    print("closed", error)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd(), env=os.environ)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "cannot be written" in first
    assert "until a restart" in second
    with open_started(tmp_path / "db") as store:
        assert store.get_tip().height == int(first.split()[1])
