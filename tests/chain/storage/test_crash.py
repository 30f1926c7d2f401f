"""A writer that is killed, and files that rot: what was acknowledged stays, or the database says no."""

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import plyvel
import pytest

from chain.errors import StorageError
from chain.state.tree import iter_leaves
from chain.storage.block_store import BlockStore
from tests.support.store import BlockMaker, StoredBlock, open_started

KILLS = 20
CORRUPTIONS = 60
BLOCKS = 40

WRITER = """
import sys
from pathlib import Path
from tests.support.store import BlockMaker, open_started
maker = BlockMaker(value_bytes=8_000)
parent = maker.headers.genesis
store = open_started(Path(sys.argv[1]))
print("open", flush=True)
while True:
    stored = maker.make(parent)
    parent = stored.entry
    if parent.height > store.get_tip().height:
        store.commit([], [stored.connected])
        print(parent.height, flush=True)
"""


def validate_everything(store: BlockStore, blocks: list[StoredBlock]) -> int:
    """Read all that the tip promises and compare it with what was once written; return the tip's height."""
    height = store.get_tip().height
    headers = [header for header in store.iter_headers() if header.height <= height]
    assert headers == [stored.block.header for stored in blocks[:height]]
    for stored in blocks[:height]:
        assert store.get_hash_at_height(stored.entry.height) == stored.entry.hash
        assert store.get_block(stored.entry.hash) == stored.block
        leaves = list(iter_leaves(store, stored.block.header.foliage.state_root))
        assert len(leaves) == 1 + stored.entry.height + min(stored.entry.height, 7)
    return height


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    chance = random.Random(7)
    acknowledged = 0
    for _ in range(KILLS):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "db")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            for _ in range(chance.randrange(1, 12)):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            # What was written into the pipe before the kill was acknowledged too.
            acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        with open_started(tmp_path / "db") as store:
            assert store.get_tip().height in {acknowledged, acknowledged + 1}
            acknowledged = store.get_tip().height
    maker = BlockMaker(value_bytes=8_000)
    blocks = maker.make_branch(maker.headers.genesis, acknowledged)
    with open_started(tmp_path / "db") as store:
        assert validate_everything(store, blocks) == acknowledged


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[StoredBlock]]:
    """Hold a database with tables, a log and a manifest of several edits."""
    # When a slow machine compacts in the background is not ours to say: a database of one table is made again.
    for attempt in range(10):
        path = tmp_path_factory.mktemp(f"pristine{attempt}") / "db"
        maker = BlockMaker(value_bytes=120_000)
        blocks = maker.make_branch(maker.headers.genesis, BLOCKS)
        for place, stored in enumerate(blocks):
            with open_started(path) as store:
                store.commit([], [stored.connected])
            if place == BLOCKS // 2:
                database = plyvel.DB(str(path))
                database.compact_range()
                database.close()
        if len(list(path.glob("*.ldb"))) >= 2:
            return path, blocks
    raise AssertionError("no database with two tables in ten attempts")


def damage(path: Path, chance: random.Random) -> str:
    """Flip bits of, cut or remove one file; say what was done."""
    victims = sorted(p for p in path.iterdir() if p.stat().st_size and p.suffix in {".ldb", ".log"})
    victims += sorted(path.glob("MANIFEST-*")) * 2 + [path / "CURRENT"]
    victim = chance.choice(victims)
    kind, raw = chance.choice(["flip", "flip", "cut", "remove", "zero"]), bytearray(victim.read_bytes())
    place = chance.randrange(len(raw))
    if kind == "remove":
        victim.unlink()
        return f"{victim.name} removed"
    if kind == "cut":
        raw = raw[:place]
    elif kind == "flip":
        raw[place] ^= 1 << chance.randrange(8)
    else:
        raw[place : place + 64] = bytes(len(raw[place : place + 64]))
    victim.write_bytes(raw)
    return f"{victim.name} {kind} at {place}"


@pytest.mark.slow
def test_a_damaged_database_is_refused_or_an_older_clean_one(
    pristine: tuple[Path, list[StoredBlock]], tmp_path: Path
) -> None:
    source, blocks = pristine
    outcomes = {"refused": 0, "older": 0, "whole": 0}
    for seed in range(CORRUPTIONS):
        path = tmp_path / f"db{seed}"
        shutil.copytree(source, path)
        damage(path, random.Random(seed))
        try:
            with open_started(path) as store:
                height = validate_everything(store, blocks)
        except StorageError:
            outcomes["refused"] += 1
        else:
            outcomes["whole" if height == BLOCKS else "older"] += 1
        shutil.rmtree(path)
    assert outcomes["refused"] >= CORRUPTIONS // 3, outcomes
