"""One life of a node that grows its chain until it is killed: what runs in the child process.

It opens its directory as a node does when it starts, says what it found there, then commits block after block and says
so behind each. It never ends by itself, unless nothing is left to do.
"""

import asyncio
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from benchmarks.lab.reliability.chains import make_past_setting, read_balances
from benchmarks.lab.reliability.directories import MOVED, open_node, produce
from benchmarks.lab.reliability.disks import Site, Trap, die, make_trapped_disk
from benchmarks.lab.simulator.setting import Setting
from chain.block import BLOCK_BYTES_MAX, Block
from chain.codec import decode, encode
from chain.errors import InvalidTransaction
from chain.ledger.accounts import get_account
from chain.primitives import Hash
from chain.transaction import Transaction, TransactionBody, Transfer, compute_signing_hash
from node.data_directory import DataDirectory
from node.database.export_folder import ExportReader
from node.database.importing import import_state, take_genesis
from node.run import Node

RECENT = 6
"""Blocks below the head that a node shows after its start."""


@dataclass(frozen=True, slots=True)
class Life:
    """What a node does until it dies: blocks of its own, those of a script, or the import of a state."""

    root: Path
    script: tuple[bytes, ...] = ()
    """Encoded blocks in the order in which they arrive; the node makes its own where there are none."""
    export: Path | None = None
    site: Site | None = None
    """Where it dies by itself."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a node found when it started, and how long that took."""

    head: Hash
    recent: tuple[bytes, ...]
    """The last blocks, encoded, youngest first."""
    balances: tuple[int, ...]
    took_ms: int


def live(life: Life, pipe: Connection) -> None:
    """Run a life; sends Opened, then bytes of each block that moved the head."""
    if life.export is not None:
        _import_state(life, pipe)
    else:
        asyncio.run(_grow(life, pipe))


async def _grow(life: Life, pipe: Connection) -> None:
    setting = make_past_setting()
    disk = make_trapped_disk(Trap(life.site, die)) if life.site is not None else None
    start_ns = time.monotonic_ns()
    async with open_node(DataDirectory(life.root), setting.miners[0], disk) as node:
        pipe.send(describe(node, setting, (time.monotonic_ns() - start_ns) // 1_000_000))
        if life.script:
            for data in life.script:
                outcome = await node.parts.importer.import_block(decode(Block, data, BLOCK_BYTES_MAX))
                if outcome.result in MOVED:
                    pipe.send(data)
            return
        while True:
            await _offer(node, setting)
            pipe.send(encode(await produce(node, setting)))


def describe(node: Node, setting: Setting, took_ms: int) -> Opened:
    """Return what a node holds; `took_ms` is what its start took."""
    chain = node.parts.chain
    heights = range(chain.head.height, max(chain.base.height, chain.head.height - RECENT), -1)
    recent = tuple(encode(chain.get_existing_block(chain.head.get_ancestor(height).hash)) for height in heights)
    return Opened(chain.head.hash, recent, read_balances(chain.view(), setting), took_ms)


async def _offer(node: Node, setting: Setting) -> None:
    """Put a transfer into the pool."""
    random = Random(node.parts.chain.head.hash)
    sender, recipient = random.sample(setting.accounts, 2)
    nonce = get_account(node.parts.chain.view(), sender.public_key).nonce
    body = TransactionBody(sender.public_key, nonce, 100_000, Transfer(recipient.public_key, random.randrange(1, 1000)))
    signature = sender.sign(compute_signing_hash(setting.context.chain_id, body))
    try:
        await node.parts.gate.admit(Transaction(body, signature))
    except InvalidTransaction as error:
        raise AssertionError(f"an honest transfer is refused: {error}") from None


def _import_state(life: Life, pipe: Connection) -> None:
    """Import a state into the directory, from where an earlier life left off; dies at the site's call for progress."""
    assert life.export is not None
    reader, directory, calls = ExportReader(life.export), DataDirectory(life.root), 0

    def on_progress(_what: str, _done: int, _all: int) -> None:
        nonlocal calls
        calls += 1
        if life.site is not None and calls == life.site.number:
            die()

    directory.create()
    take_genesis(reader, directory)
    import_state(reader, directory, reader.manifest.head, on_progress)
    pipe.send(calls)
