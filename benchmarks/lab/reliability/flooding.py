"""Processes that flood a node: with blocks that only a signature check refuses, or with transfers that nobody can pay.

Each keeps some connections busy. A peer that is dropped comes back under another key at once; loopback addresses are
exempt from bans by address, so this attacker owns as many addresses as it likes.
"""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count, cycle
from multiprocessing.connection import Connection

from benchmarks.lab.reliability.chains import make_past_setting
from benchmarks.lab.reliability.guests import announce, join, serve
from benchmarks.lab.simulator.setting import Setting
from chain.block import BLOCK_BYTES_MAX, Block
from chain.codec import decode, encode
from chain.errors import MathesisError
from chain.header import compute_header_hash
from chain.primitives import Hash, Signature
from chain.signature import SigningKey
from chain.transaction import (
    Transaction,
    TransactionBody,
    Transfer,
    compute_signing_hash,
    compute_transaction_hash,
)
from node.options import Endpoint
from node.transport import Dialler
from p2p.messages import ItemKind

CONNECTIONS = 8
BATCH = 16
"""Items that a node asks of one peer at a time."""
TRANSFERS_BATCH = 500
TRANSFERS_SIGNED = 8_000
SILENCE_S = 2.0
"""A node that asks for nothing for so long has ended this connection's use."""


@dataclass(frozen=True, slots=True)
class Flood:
    """Who is flooded, how fast at most, and with what: variants of a block, or transfers where there is none."""

    place: Endpoint
    per_s: int
    block: bytes | None = None


@contextmanager
def run_flood(flood: Flood, rates: list[float]) -> Iterator[None]:
    """Flood from another process during the block; what the node took a second is appended to `rates`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.lab.reliability.warm"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(flood, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield
        ours.send("stop")
        rates.append(ours.recv())
    finally:
        process.kill()
        process.join()


def _run(flood: Flood, pipe: Connection) -> None:
    setting = make_past_setting()
    if flood.block is None:
        source = _sign_transfers(setting)
    else:
        source = _iter_blocks(decode(Block, flood.block, BLOCK_BYTES_MAX))
    pipe.send("ready")
    pipe.send(asyncio.run(_attack(flood, setting, source, pipe)))


async def _attack(flood: Flood, setting: Setting, source: Iterator[tuple[Hash, bytes]], pipe: Connection) -> float:
    sent, dialler, start_s = [0], Dialler(), time.monotonic()

    async def keep_busy() -> None:
        while not pipe.poll():
            if sent[0] > flood.per_s * (time.monotonic() - start_s):
                await asyncio.sleep(0.01)
                continue
            with suppress(OSError, MathesisError):
                async with asyncio.timeout(SILENCE_S):
                    await _visit(flood, setting, source, dialler, sent)

    await asyncio.gather(*(keep_busy() for _ in range(CONNECTIONS)))
    await dialler.stop()
    return sent[0] / (time.monotonic() - start_s)


async def _visit(
    flood: Flood, setting: Setting, source: Iterator[tuple[Hash, bytes]], dialler: Dialler, sent: list[int]
) -> None:
    """Announce a batch and answer until all of it is taken, or the node has hung up."""
    is_block = flood.block is not None
    batch = dict(next(source) for _ in range(BATCH if is_block else TRANSFERS_BATCH))
    async with join(dialler, flood.place, setting) as link:
        await announce(link, ItemKind.BLOCK if is_block else ItemKind.TRANSACTION, list(batch))
        answered = 0
        async for told in serve(link, batch if is_block else {}, {} if is_block else batch):
            answered += told < 0
            sent[0] += told < 0
            if answered == len(batch):
                return


def _iter_blocks(block: Block) -> Iterator[tuple[Hash, bytes]]:
    """Yield blocks that keep every rule up to their signature."""
    foliage = block.header.foliage
    for number in count(1):
        changed = replace(foliage, state_root=Hash(os.urandom(32)), timestamp_ms=foliage.timestamp_ms + number % 1000)
        header = replace(block.header, foliage=changed, signature=Signature(os.urandom(64)))
        yield compute_header_hash(header), encode(replace(block, header=header))


def _sign_transfers(setting: Setting) -> Iterator[tuple[Hash, bytes]]:
    """Sign transfers of accounts that have nothing, and return them as they come again and again."""
    key, pairs = SigningKey(os.urandom(32)), list[tuple[Hash, bytes]]()
    for nonce in range(TRANSFERS_SIGNED):
        body = TransactionBody(key.public_key, nonce, 10**6, Transfer(setting.accounts[0].public_key, 1))
        transfer = Transaction(body, key.sign(compute_signing_hash(setting.context.chain_id, body)))
        pairs.append((compute_transaction_hash(transfer), encode(transfer)))
    return cycle(pairs)
