"""`python -m benchmarks.state`: how fast the state changes, what a proof of it weighs, what pruning and chunks cost.

Writes rates of one core beside the floor of the hashes alone, sizes of proofs over a million keys, blocks over LevelDB
with and without the cache and pruning, and chunks made and verified to benchmarks/results/state.md.
"""

import argparse
import hashlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.records import describe_machine
from benchmarks.light_levels import format_table
from chain.codec import encode
from chain.primitives import Hash
from chain.state.proof import prove_key, verify_exclusion, verify_inclusion
from chain.state.snapshot import iter_chunks, verify_chunk
from chain.state.tree import EMPTY_ROOT, MemoryNodes, get_value
from chain.state.update import TreeUpdate, update_tree
from chain.storage import state_nodes
from chain.storage.leveldb import LevelDb
from chain.storage.rows import SealedRows
from chain.storage.state_nodes import StateNodes

RESULTS = Path(__file__).parent / "results" / "state.md"
BATCH = 4_000
REPEATS = 9
PROOFS = 5_000
KEPT = 4
"""Blocks whose states the measured store keeps; what a block deletes does not depend on it."""


@dataclass
class Population:
    """Accounts under random keys, and the tree over them in memory."""

    keys: list[bytes]
    root: Hash
    nodes: MemoryNodes

    @classmethod
    def make(cls, count: int) -> "Population":
        """Return `count` accounts of 40 bytes each."""
        chance = random.Random(1)
        keys = [chance.randbytes(34) for _ in range(count)]
        update = update_tree(MemoryNodes(), EMPTY_ROOT, {key: chance.randbytes(40) for key in keys})
        return cls(keys, update.root, MemoryNodes(update.nodes))

    def draw(self, count: int, chance: random.Random) -> dict[bytes, bytes]:
        """Return new values for some accounts."""
        return {key: chance.randbytes(40) for key in chance.sample(self.keys, count)}


def measure(act: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Return the median and the quartile distance of this process's seconds over some runs."""
    samples = []
    for _ in range(repeats):
        start_ns = time.process_time_ns()
        act()
        samples.append((time.process_time_ns() - start_ns) / 1e9)
    low, median, high = statistics.quantiles(samples, n=4)
    return median, high - low


def measure_updates(population: Population) -> Sequence[tuple[str, ...]]:
    """Return rows of updates a second in batches, beside the hashes that they cannot do without."""
    rows = []
    for size in (1, 100, BATCH):
        chance, updates = random.Random(size), list[TreeUpdate]()
        batches = [population.draw(size, chance) for _ in range(REPEATS * max(1, 1_000 // size))]
        groups = iter([batches[start::REPEATS] for start in range(REPEATS)])
        seconds, spread = measure(lambda groups=groups, updates=updates: run_updates(population, next(groups), updates))  # type: ignore[misc]
        keys = size * max(1, 1_000 // size)
        born = sum(data is not None for update in updates for data in update.nodes.values())
        per_key = born / (size * len(updates))
        floor = measure_hashes(round(per_key * 1_000)) / 1_000
        share = floor / (seconds / keys)
        rows.append(
            (f"{size:,}", f"{keys / seconds:,.0f}", f"{spread / seconds:.1%}", f"{per_key:.1f}", f"{share:.0%}")
        )
    return rows


def run_updates(population: Population, batches: list[dict[bytes, bytes]], updates: list[TreeUpdate]) -> None:
    """Update the tree by each batch, and note what came of it."""
    for batch in batches:
        updates.append(update_tree(population.nodes, population.root, batch))


def measure_hashes(count: int) -> float:
    """Return the seconds of `count` SHA-256 of an inner node's bytes, alone."""
    data = [os.urandom(65) for _ in range(count)]
    return measure(lambda: [hashlib.sha256(each).digest() for each in data])[0]


def measure_proofs(population: Population) -> Sequence[tuple[str, ...]]:
    """Return rows of sizes and rates of proofs of presence and of absence."""
    chance = random.Random(2)
    present = chance.sample(population.keys, PROOFS)
    absent = [chance.randbytes(34) for _ in range(PROOFS)]
    rows = []
    for name, keys in (("presence", present), ("absence", absent)):
        proofs = [prove_key(population.nodes, population.root, key) for key in keys]
        sizes = [len(encode(proof)) for proof in proofs]
        made, _ = measure(lambda keys=keys: [prove_key(population.nodes, population.root, key) for key in keys], 3)  # type: ignore[misc]
        checked, _ = measure(lambda keys=keys, proofs=proofs: verify(population, keys, proofs), 3)  # type: ignore[misc]
        cells = (statistics.median(sizes), max(sizes), PROOFS / made / 1e3, PROOFS / checked / 1e3)
        rows.append((name, f"{cells[0]:,.0f}", f"{cells[1]:,}", f"{cells[2]:.1f}", f"{cells[3]:.1f}"))
    return rows


def verify(population: Population, keys: list[bytes], proofs: list) -> None:  # type: ignore[type-arg]
    """Check every proof."""
    for key, proof in zip(keys, proofs, strict=True):
        value = get_value(population.nodes, population.root, key)
        if value is None:
            verify_exclusion(population.root, key, proof)
        else:
            verify_inclusion(population.root, key, value, proof)


@dataclass
class StoredState:
    """A population's tree in LevelDB, changed block by block."""

    rows: SealedRows
    nodes: StateNodes
    root: Hash
    number: int = 1
    pruned: int = 1

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return a node's bytes, or None."""
        return self.nodes.get_state_node(node_hash)

    def commit(self, changes: dict[bytes, bytes], is_pruning: bool) -> tuple[int, int]:
        """Change the tree, write it as a block would; return how many nodes came and went."""
        update = update_tree(self, self.root, changes)
        self.number += 1
        rows = self.nodes.make_rows(self.number, update.nodes, {})
        pruning, self.pruned = self.nodes.make_pruning_rows(
            self.pruned, self.number - KEPT if is_pruning else self.pruned, rows
        )
        self.rows.write(rows | pruning)
        self.nodes.remember(update.nodes, self.pruned, self.number)
        self.root = update.root
        return sum(data is not None for data in update.nodes.values()), sum(row is None for row in pruning.values())


def measure_blocks(population: Population, folder: Path) -> Sequence[tuple[str, ...]]:
    """Return rows of milliseconds a block of 4,000 changed accounts, in four ways."""
    chance, rows = random.Random(3), list[tuple[str, ...]]()
    data = dict(population.nodes._nodes)
    for is_cached, is_pruning in ((False, False), (True, False), (False, True), (True, True)):
        state_nodes.CACHED_NODES = 131_072 if is_cached else 2
        engine = LevelDb(folder / f"{is_cached}{is_pruning}")
        sealed = SealedRows(engine)
        state = StoredState(sealed, StateNodes(sealed), population.root)
        names = list(data)
        for start in range(0, len(names), 50_000):
            part = {name: data[name] for name in names[start : start + 50_000]}
            sealed.write(state.nodes.make_node_rows(part))
        spent, counts = [], []
        for turn in range(3 * KEPT):
            changes = population.draw(BATCH, chance)
            start_ns = time.process_time_ns()
            counts.append(state.commit(changes, is_pruning))
            if turn >= 2 * KEPT:
                spent.append((time.process_time_ns() - start_ns) / 1e6)
        engine.close()
        low, median, high = statistics.quantiles(spent, n=4)
        made, gone = counts[-1]
        names_of = ("cache" if is_cached else "no cache", "pruned" if is_pruning else "all kept")
        rows.append((*names_of, f"{median:.0f}", f"{high - low:.0f}", f"{made:,}", f"{gone:,}"))
    return rows


def measure_chunks(population: Population) -> Sequence[tuple[str, ...]]:
    """Return one row: chunks of the whole state, their sizes, and the rates at which they are made and verified."""
    start = time.process_time()
    chunks = list(iter_chunks(population.nodes, population.root))
    made = time.process_time() - start
    sizes = [len(encode(chunk)) for chunk in chunks]
    start = time.process_time()
    for chunk in chunks:
        verify_chunk(population.root, chunk)
    checked = time.process_time() - start
    boundary = max(65 * len(chunk.boundary) for chunk in chunks)
    count = len(population.keys)
    return [(f"{len(chunks)}", f"{max(sizes):,}", f"{boundary:,}", f"{count / made:,.0f}", f"{count / checked:,.0f}")]


def make_page(counts: tuple[int, int], folder: Path) -> str:
    """Return the page of results for a small and a large population."""
    load = os.getloadavg()[0]
    small, large = (Population.make(count) for count in counts)
    update_head = ("keys a batch", "keys a second", "spread", "nodes made a key", "floor: hashes alone")
    proof_head = ("proof of", "bytes, median", "bytes, most", "made a ms", "verified a ms")
    block_head = ("reads", "states", "ms of a core a block", "spread", "nodes made", "rows deleted")
    chunk_head = ("chunks", "bytes, most", "of it boundary, most", "leaves made a second", "leaves verified a second")
    return "\n".join(
        (
            "# State\n",
            f"{describe_machine()}, Python, load average {load:.1f} at the start\n",
            f"Updates in memory over {counts[0]:,} keys, of a core; medians of {REPEATS} runs.\n",
            format_table(update_head, measure_updates(small)),
            f"Proofs over {counts[1]:,} keys.\n",
            format_table(proof_head, measure_proofs(large)),
            f"The tree's part of a block that changes {BATCH:,} of {counts[0]:,} accounts, on LevelDB, of a core.\n",
            format_table(block_head, measure_blocks(small, folder)),
            f"A snapshot of {counts[1]:,} accounts.\n",
            format_table(chunk_head, measure_chunks(large)),
        )
    )


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=200_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = make_page((arguments.small, arguments.large), Path(folder))
    RESULTS.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
