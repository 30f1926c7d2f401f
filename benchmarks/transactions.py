"""`python -m benchmarks.transactions`: how fast transactions enter the pool, stand in blocks, and leave.

Floors of the parts, a block of 2,000 with its profile, the gate, a first sync, a deep reorganisation and a flood are
measured in one run, on nodes with a real database, and written to benchmarks/results/transactions.md. Every table says
what the clock said and what the processor worked, as other work on the machine slows the clock alone.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.lab.tables import describe_run, format_table
from benchmarks.transaction_chain import BlockMaker, make_learning, make_load_genesis, open_load_node, take_block
from benchmarks.transaction_floors import measure_floors, profile_block
from benchmarks.transaction_load import measure_accept, measure_flood
from chain.codec import encode
from chain.packed import pack_block
from chain.transaction import Transaction

RESULTS = Path(__file__).parent / "results" / "transactions.md"
BLOCK_TRANSACTIONS = 2_000
THREADS = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of the clock and of the processor, all threads together."""

    clock_s: float
    processor_s: float


async def time_call(call: Callable[[], Awaitable[object]]) -> Sample:
    """Return what one call takes."""
    clock_s, processor_s = perf_counter(), process_time()
    await call()
    return Sample(perf_counter() - clock_s, process_time() - processor_s)


def tabulate(name: str, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return a row: median and quartile distance in milliseconds, of the clock and of the processor."""
    row = [name]
    for values in ([sample.clock_s for sample in samples], [sample.processor_s for sample in samples]):
        low, median, high = statistics.quantiles([1_000 * value for value in values], n=4)
        row += [f"{median:.0f}", f"{high - low:.0f}"]
    return (*row, str(len(samples)))


HEADER = ("what", "clock, ms", "spread", "processor, ms", "spread", "runs")


async def measure_blocks(maker: BlockMaker, root: Path, runs: int) -> str:
    """Return the table of a block's import, signatures unknown and known, for many and for few accounts."""
    rows = []
    with open_load_node(root / "blocks", maker.genesis, THREADS) as node:
        node.importer.start()
        for block in maker.fund(BLOCK_TRANSACTIONS):
            await take_block(node, encode(block))
        few = len(maker.keys) // 100
        for senders, name in ((len(maker.keys), "4,000 accounts"), (few, f"{few} accounts")):
            samples: dict[bool, list[Sample]] = {False: [], True: []}
            for turn in range(2 * runs):
                block, is_known = maker.make_block(make_load(maker, senders, turn)), bool(turn % 2)
                if is_known:
                    node.signatures.find_errors(pack_block(block).transactions)
                samples[is_known].append(await time_call(partial(take_block, node, encode(block))))
            rows += [tabulate(f"{name}, cold", samples[False]), tabulate(f"{name}, signatures known", samples[True])]
        profile = profile_block(node, maker, maker.make_block(make_load(maker, len(maker.keys), 0)))
        await node.importer.stop()
    title = "Parts of the block of many accounts, signatures known, one thread:"
    return f"{format_table(HEADER, rows)}\n{title}\n\n{profile}"


def make_load(maker: BlockMaker, senders: int, turn: int) -> list[Transaction]:
    """Return a block's transfers among the first `senders` accounts."""
    if senders == len(maker.keys):
        return maker.make_transfers(BLOCK_TRANSACTIONS, turn)
    return [maker.transfer(n % senders, (n * 7 + 3) % senders) for n in range(BLOCK_TRANSACTIONS)]


async def measure_sync(maker: BlockMaker, root: Path, blocks: int) -> str:
    """Return the rate at which a new node takes a chain of full blocks."""
    chain = [*maker.fund(BLOCK_TRANSACTIONS)]
    chain += [maker.make_block(maker.make_transfers(BLOCK_TRANSACTIONS, turn)) for turn in range(blocks)]
    datas, count = [encode(block) for block in chain], sum(len(block.transactions) for block in chain)
    with open_load_node(root / "sync", maker.genesis, THREADS) as node:
        node.importer.start()

        async def sync() -> None:
            await asyncio.gather(*(take_block(node, data) for data in datas))

        sample = await time_call(sync)
        assert node.chain.head.header.foliage.state_root == maker.tip.header.foliage.state_root
        await node.importer.stop()
    return (
        f"{len(chain)} blocks with {count:,} transactions: {count / sample.clock_s:,.0f} a second of the clock, "
        f"{count / sample.processor_s:,.0f} a second of one core.\n"
    )


async def measure_reorg(maker: BlockMaker, root: Path, depth: int, per_block: int) -> str:
    """Return what leaving `depth` blocks for a heavier branch takes, its root compared with a replay."""
    other = maker.branch(salt=7)
    branches = [
        [maker.make_block(maker.make_transfers(per_block, turn)) for turn in range(depth)],
        [other.make_block(other.make_transfers(per_block, 3 * turn + 1)) for turn in range(depth + 1)],
    ]
    with (
        open_load_node(root / "reorg", maker.genesis, THREADS) as node,
        open_load_node(root / "replay", maker.genesis, THREADS) as fresh,
    ):
        node.importer.start()
        fresh.importer.start()
        for block in (*branches[0], *branches[1][:-1]):
            await take_block(node, encode(block))
        sample = await time_call(lambda: take_block(node, encode(branches[1][-1])))
        for block in branches[1]:
            await take_block(fresh, encode(block))
        roots = {each.chain.head.header.foliage.state_root for each in (node, fresh)}
        assert roots == {other.tip.header.foliage.state_root}, "the way must not show"
        assert node.chain.view().commit()[0] == fresh.chain.view().commit()[0]
        for each in (node, fresh):
            await each.importer.stop()
            await each.gate.stop()
    return (
        f"{depth} blocks left and {depth + 1} joined, {per_block} transactions each: {sample.clock_s:.2f} s of the "
        f"clock, {sample.processor_s:.2f} s of the processor; the root is that of a replay from genesis.\n"
    )


async def run(accounts: int, runs: int, blocks: int, depth: int) -> str:
    """Return the page."""
    genesis = make_load_genesis()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def make(count: int) -> BlockMaker:
            return BlockMaker(genesis, count, make_learning(genesis, root / "maker"))

        parts = [
            "# Transactions\n",
            describe_run() + f" {accounts:,} accounts in the state; a database that syncs every block.\n",
            "## Floors\n\nThe same work without a chain around it.\n",
            measure_floors(BLOCK_TRANSACTIONS, THREADS),
            f"## A block of {BLOCK_TRANSACTIONS:,} transfers\n",
            "Decode, roots, signatures, execution, state, synced write.\n",
            await measure_blocks(make(accounts), root, runs),
            "## The pool\n\nDecode, signature, state, insert, announce to eight peers.\n",
            await measure_accept(make(accounts), root, THREADS),
            "## First sync\n",
            await measure_sync(make(accounts), root, blocks),
            "## Reorganisation\n",
            await measure_reorg(make(1_000), root, depth, 200),
            "## A flood\n",
            await measure_flood(make(accounts), root, THREADS),
            f"Load average at the end: {os.getloadavg()[0]:.1f}.\n",
        ]
    return "\n".join(parts)


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=15, help="blocks measured of each kind")
    parser.add_argument("--blocks", type=int, default=20, help="full blocks of the first sync")
    parser.add_argument("--depth", type=int, default=100, help="blocks of the reorganisation")
    options = parser.parse_args()
    page = asyncio.run(run(options.accounts, options.runs, options.blocks, options.depth))
    RESULTS.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
