"""Transactions offered to a node as fast as it takes them, and blocks imported while a flood is offered beside them.

What a peer sends is decoded, admitted in batches and announced through the node's relay; only the sockets are missing.
The floods come at ten times the rate that a network is meant to sustain. It measures no block by itself.
"""

import asyncio
import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.lab.tables import format_table
from benchmarks.transaction_chain import BlockMaker, LoadNode, open_load_node, take_block
from chain.codec import encode
from chain.header import compute_header_hash
from chain.packed import decode_transaction, pack_block, pack_transaction
from chain.primitives import Hash, PublicKey, Signature
from chain.transaction import Transaction
from node.chain_port import NodeChainPort
from node.gate import BATCH_MAX, Offer
from node.judge import Judge, Judged
from node.mempool import AddResult, PoolBounds
from p2p.actions import DeliverBlock, DeliverTransaction
from p2p.limits import Limits
from p2p.relay import Relay

PEERS = 8
PEER = PublicKey(bytes(32))
OFFERED = 10_240
FLOOD_PER_S = 10_000
FLOOD_SLICES_PER_S = 100
FLOOD_BLOCKS = 12
FLOOD_BLOCK_TRANSACTIONS = 1_000

FULL_POOL = PoolBounds(bytes_max=1_000_000)
"""A fifteenth of a pool, which is soon full."""


async def measure_accept(maker: BlockMaker, root: Path, threads: int) -> str:
    """Return the rate at which transactions enter the pool, from many accounts and from few."""
    funding, rows = [encode(block) for block in maker.fund(2_000)], []
    for senders in (OFFERED, OFFERED // 32):
        with open_load_node(root / f"accept-{senders}", maker.genesis, threads) as node:
            node.importer.start()
            for data in funding:
                await take_block(node, data)
            other = maker.branch(0)
            offered = [encode(other.transfer(n % senders, 0)) for n in range(OFFERED)]
            rows.append((f"{senders:,} accounts", *await _time_offers(node, make_relay(node), offered)))
            await node.importer.stop()
    return format_table(("from", "a second of the clock", "a second of one core", "messages to peers"), rows)


def make_relay(node: LoadNode) -> Relay:
    """Return a relay with peers that have said nothing yet."""
    relay = Relay(_make_port(node), Limits(), Hash(os.urandom(32)))
    for number in range(PEERS):
        relay.on_established(PublicKey(bytes([number]) * 32))
    relay.poll(0)
    return relay


def _make_port(node: LoadNode) -> NodeChainPort:
    return NodeChainPort(node.chain, node.importer, node.mempool, node.gate)


async def _time_offers(node: LoadNode, relay: Relay, datas: Sequence[bytes]) -> tuple[str, ...]:
    announced = 0

    def announce(transaction_hash: Hash) -> None:
        nonlocal announced
        relay.announce_transaction(transaction_hash)
        announced += len(relay.poll(0))

    node.gate.on_admitted.append(announce)
    clock_s, processor_s = perf_counter(), process_time()
    for start in range(0, len(datas), BATCH_MAX):
        answers = await node.gate.admit_many([Offer(decode_transaction(d)) for d in datas[start : start + BATCH_MAX]])
        assert set(answers) == {AddResult.ADDED}, answers
    rates = len(datas) / (perf_counter() - clock_s), len(datas) / (process_time() - processor_s)
    return f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", f"{announced:,}"


async def measure_flood(maker: BlockMaker, root: Path, threads: int) -> str:
    """Return what a block takes alone, beside a flood that a full pool refuses, and beside forgeries."""
    with open_load_node(root / "flood", maker.genesis, threads, FULL_POOL) as node:
        node.importer.start()
        for block in maker.fund(2_000):
            await take_block(node, encode(block))
        # Other nonces than the maker's own: none of these stands in a block.
        other = maker.branch(0)
        full = [Offer(pack_transaction(other.transfer(n, 0, fee=10_000))) for n in range(8_000, 16_000)]
        await node.gate.admit_many(full)
        cheap = [other.transfer(n, 0, fee=1) for n in range(4_000, 6_000)]
        forged = [_forge(other.transfer(n, 0, fee=10**6)) for n in range(6_000, 8_000)]
        rows = [
            (name, *await _time_beside(node, maker, [_deliver(each) for each in flood]))
            for name, flood in (("nothing", []), ("transfers that pay too little", cheap), ("forgeries", forged))
        ]
        await node.importer.stop()
        await node.gate.stop()
    header = ("beside", "clock, ms", "spread", "of the time alone", "offered a second", "judged a second")
    alone = float(rows[0][1])
    return format_table(header, [(*row[:3], f"{float(row[1]) / alone:.2f}", *row[3:]) for row in rows])


def _forge(transaction: Transaction) -> Transaction:
    """Return the transaction with a signature that has the form of one."""
    return replace(transaction, signature=Signature(transaction.signature[:32] + bytes(32)))


def _deliver(transaction: Transaction) -> DeliverTransaction:
    packed = pack_transaction(transaction)
    return DeliverTransaction(PEER, packed.hash, packed, None)


async def _time_beside(node: LoadNode, maker: BlockMaker, flood: Sequence[DeliverTransaction]) -> tuple[str, ...]:
    blocks = []
    for turn in range(FLOOD_BLOCKS):
        senders = [(n + turn * FLOOD_BLOCK_TRANSACTIONS) % 4_000 for n in range(FLOOD_BLOCK_TRANSACTIONS)]
        blocks.append(maker.make_block([maker.transfer(n, (n * 7 + 3) % 4_000) for n in senders]))
    port, arrived, judged = _make_port(node), asyncio.Event(), 0

    def on_judged(found: Judged) -> None:
        nonlocal judged
        judged += sum(isinstance(delivery, DeliverTransaction) for delivery, _ in found)
        relay.poll(0)
        if any(isinstance(delivery, DeliverBlock) for delivery, _ in found):
            arrived.set()

    relay = make_relay(node)
    judge = Judge(port, relay, lambda: 0, on_judged)
    tasks = [asyncio.create_task(judge.run()), asyncio.create_task(_pour(judge, flood))]
    started_s, samples = perf_counter(), []
    for block in blocks:
        arrived.clear()
        before_s = perf_counter()
        judge.put(DeliverBlock(PEER, compute_header_hash(block.header), pack_block(block), ()))
        await arrived.wait()
        samples.append(1_000 * (perf_counter() - before_s))
        # Blocks do not come one right behind the other.
        await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert node.chain.head.hash == maker.tip.hash
    low, median, high = statistics.quantiles(samples, n=4)
    offered = f"{FLOOD_PER_S:,}" if flood else "0"
    return f"{median:.0f}", f"{high - low:.0f}", offered, f"{judged / (perf_counter() - started_s):,.0f}"


async def _pour(judge: Judge, flood: Sequence[DeliverTransaction]) -> None:
    """Offer `flood` again and again at its rate; what the judge has no room for is let go."""
    per_slice, place, next_s = FLOOD_PER_S // FLOOD_SLICES_PER_S, 0, perf_counter()
    while flood:
        for delivery in flood[place : place + per_slice]:
            judge.put(delivery)
        place = (place + per_slice) % len(flood)
        next_s += 1 / FLOOD_SLICES_PER_S
        await asyncio.sleep(max(0.0, next_s - perf_counter()))
