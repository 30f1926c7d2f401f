"""Data directories as nodes leave them: a chain that was imported the real way, over several starts.

A database that was opened and closed some times has tables, a log and a manifest of several edits. It damages nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.lab.reliability.chains import Maker, Rules, Truth, make_maker
from benchmarks.lab.simulator.mining import find_ticket
from benchmarks.lab.simulator.setting import Setting
from chain.block import Block
from chain.primitives import Hash
from chain.signature import SigningKey
from node.data_directory import DataDirectory
from node.keystore import write_key
from node.options import LOOPBACK, Endpoint, NodeOptions
from node.outcomes import ImportResult
from node.producer import Producer
from node.run import Disk, Node, make_node

MOVED = (ImportResult.EXTENDED, ImportResult.REORGED)
STARTS = 5
"""How often a prepared directory was opened."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A directory, what is known of its chain, and a maker that stands on its last imported block."""

    directory: DataDirectory
    truth: Truth
    maker: Maker
    head: Hash


def make_options(directory: DataDirectory) -> NodeOptions:
    """Return options of a node on any free ports that says little."""
    anywhere = Endpoint(LOOPBACK, 0)
    return NodeOptions(directory.root, anywhere, anywhere, log_level="error")


def make_directory(rules: Rules, root: Path) -> DataDirectory:
    """Return a directory with genesis and key of the first miner, and nothing else."""
    directory = DataDirectory(root)
    directory.create()
    directory.write_genesis(rules.setting.genesis)
    write_key(directory.key_path, rules.setting.miners[0], "", is_development=True)
    return directory


@asynccontextmanager
async def open_node(directory: DataDirectory, key: SigningKey, disk: Disk | None = None) -> AsyncIterator[Node]:
    """Open a directory as a node does when it starts, and import; nothing listens. Raises what `make_node` raises."""
    node = make_node(make_options(directory), directory, key, disk)
    node.parts.importer.start()
    try:
        yield node
    finally:
        await node.stop()


def prepare(rules: Rules, root: Path, height: int, produced: int = 0) -> Prepared:
    """Return a directory with a chain of `height` blocks, and behind them some that the node made itself."""
    maker, truth = make_maker(rules, height), Truth(rules)
    directory = make_directory(rules, root)
    blocks = [maker.make_block() for _ in range(height)]
    size = max(1, -(-height // STARTS))
    for start in range(0, height, size):
        asyncio.run(_import(directory, rules, blocks[start : start + size]))
    blocks += asyncio.run(_produce(directory, rules.setting, produced))
    names = [truth.learn(block) for block in blocks]
    return Prepared(directory, truth, maker, names[-1] if names else rules.setting.genesis_hash)


async def _import(directory: DataDirectory, rules: Rules, blocks: Sequence[Block]) -> None:
    async with open_node(directory, rules.setting.miners[0]) as node:
        for block in blocks:
            outcome = await node.parts.importer.import_block(block)
            assert outcome.result in MOVED, outcome


async def _produce(directory: DataDirectory, setting: Setting, count: int) -> list[Block]:
    if not count:
        return []
    async with open_node(directory, setting.miners[0]) as node:
        return [await produce(node, setting) for _ in range(count)]


async def produce(node: Node, setting: Setting) -> Block:
    """Win a ticket on the head and have the node make a block of it; the same head gives the same ticket."""
    head = node.parts.chain.head
    won = find_ticket(setting, head, node.parts.key, Random(head.hash))
    assert won is not None, "no ticket in thousands of laps"
    outcome = await Producer(node.parts).produce(head.hash, won.ticket, won.opening)
    assert outcome is not None
    assert outcome.result in MOVED, outcome
    return node.parts.chain.get_existing_block(outcome.hash)
