"""Miners that sign twice: pairs of blocks with one ticket, and one ticket with contents without end.

Every ticket is won and every header signed by its miner. What the process holds more at the end is counted.
"""

import asyncio
import os
import resource
import tracemalloc
from collections import Counter
from dataclasses import replace

from benchmarks.lab.reliability.chains import Maker, make_rules
from benchmarks.lab.reliability.directories import MOVED, open_node, prepare
from benchmarks.lab.reliability.part import Result, Setup, tell
from chain.block import Block
from chain.header import compute_signing_hash
from chain.primitives import Hash
from node.outcomes import ImportResult
from node.run import Node

HEIGHT = 4
ENDLESS = 1_000
"""Contents of one ticket."""
BYTES_PER_PAIR_MAX = 64 * 1024
"""What two blocks of one ticket may leave in memory; their headers and the tree's entries take some KiB."""


def run_equivocations(setup: Setup) -> Result:
    """Import pairs of contents of one ticket on a growing chain, then many contents of the last ticket."""
    rules, result = make_rules(setup.root / "rules"), Result()
    base = prepare(rules, setup.root / "base", HEIGHT)

    async def run() -> None:
        async with open_node(base.directory, rules.setting.miners[0]) as node:
            await _run(setup, base.maker, node, result)

    asyncio.run(run())
    return result


async def _run(setup: Setup, maker: Maker, node: Node, result: Result) -> None:
    outcomes = Counter[str]()
    # The first block makes what is made once, the filter of dead nodes for instance.
    assert (await node.parts.importer.import_block(maker.make_block())).result in MOVED
    tracemalloc.start()
    before_bytes, _ = tracemalloc.get_traced_memory()
    for seed in setup.seeds:
        block = maker.make_block()
        first = await node.parts.importer.import_block(block)
        second = await node.parts.importer.import_block(sign_another(maker, block, seed))
        outcomes[second.result.name.lower()] += 1
        if first.result not in MOVED or second.result is not ImportResult.EVIDENCE:
            result.fail(seed, f"found {first.result.name} and {second.result.name}, expected the second as evidence")
        result.reached += 1
        tell(setup, result, "equivocations")
    after_pairs_bytes, _ = tracemalloc.get_traced_memory()
    surplus = await _import_endless(setup, maker, node, result)
    after_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    each_bytes = (after_pairs_bytes - before_bytes) // result.reached
    if each_bytes > BYTES_PER_PAIR_MAX:
        result.fail(setup.seed, f"a pair left {each_bytes:,} bytes in memory, expected {BYTES_PER_PAIR_MAX:,} at most")
    result.figures = {
        "second contents, by what became of them": ", ".join(f"{name} {number:,}" for name, number in outcomes.items()),
        "memory that a pair left, its blocks on the chain included": f"{each_bytes:,} bytes",
        f"memory that {ENDLESS:,} contents of one ticket left": f"{max(0, after_bytes - after_pairs_bytes):,} bytes",
        "of which refused as surplus": f"{surplus:,}",
        "most allocated by Python at a time": f"{peak_bytes / 2**20:.1f} MiB",
        "most resident at a time": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB",
    }


async def _import_endless(setup: Setup, maker: Maker, node: Node, result: Result) -> int:
    """Import many contents of one ticket and return how many were surplus; two may be kept."""
    block, surplus = maker.make_block(), 0
    for number in range(ENDLESS):
        outcome = await node.parts.importer.import_block(sign_another(maker, block, number))
        surplus += outcome.result is ImportResult.SURPLUS
    if surplus < ENDLESS - 2:
        result.fail(setup.seed, f"found {surplus} of {ENDLESS} contents of one ticket surplus, expected all but two")
    return surplus


def sign_another(maker: Maker, block: Block, number: int) -> Block:
    """Return another content of a block's ticket, signed by its miner: a state that it does not lead to."""
    foliage = replace(block.header.foliage, state_root=Hash(os.urandom(24) + number.to_bytes(8, "big")))
    signature = maker.key.sign(compute_signing_hash(maker.rules.setting.context.chain_id, foliage))
    return replace(block, header=replace(block.header, foliage=foliage, signature=signature))
