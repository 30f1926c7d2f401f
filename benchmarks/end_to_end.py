"""`python -m benchmarks.end_to_end`: transactions a second through three real nodes beside a miner at nice 19.

Three processes on loopback, one of them fed by its miner; a sender offers signed transfers to the node that is farthest
from it, over RPC. Counted is what stands in blocks that all three share at the end. The miner's rate under load is set
beside its rate before. It writes benchmarks/results/end_to_end.md.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.end_to_end_sender import LOAD_ACCOUNTS, LOAD_ATOMS, make_load_keys, run_sender
from benchmarks.lab.tables import describe_run, format_table
from chain.block import BLOCK_BYTES_MAX, Block
from chain.codec import decode
from chain.genesis import Allocation, compute_chain_id
from node.devnet.members import Member, make_members, start_miner, start_node
from node.devnet.processes import Child, stop_children
from node.options import DevnetOptions
from node.rpc import methods
from node.rpc.client import AsyncRpcClient, NodeUnreachable
from node.rpc.registry import Params
from node.rpc.views import StatusView

RESULTS = Path(__file__).parent / "results" / "end_to_end.md"
NODES = 3
NICENESS = 19
POLL_S = 1.0
START_TIMEOUT_S = 120
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Phase:
    """What a stretch of time showed: the miner's MACs a second, blocks, and seconds of processor time by process."""

    seconds: float
    blocks: int
    macs_per_s: int
    processor_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The stretch under load: what was offered, what stands in blocks, and how full these are."""

    phase: Phase
    offered: int
    included: int
    span_s: float
    largest: int
    pool_max: int


async def main_async(seconds: int, rate: int, base_port: int) -> None:
    """Measure, print and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        options = DevnetOptions(Path(folder), nodes=NODES, miners=1, fresh=True, base_port=base_port)
        allocations = tuple(Allocation(key.public_key, LOAD_ATOMS) for key in make_load_keys())
        members = make_members(options, allocations)
        nodes = [await start_node(member, members) for member in members]
        children = list(nodes)
        try:
            await _wait_started(members)
            children.append(await start_miner(members[0], niceness=NICENESS))
            await _wait_height(members[0], 3)
            alone = await _watch(members, children, max(30, seconds // 10))
            loaded = await _load(members, children, seconds, rate)
        finally:
            await stop_children(children[::-1])
    page = _render(alone, loaded, rate)
    print(page)
    RESULTS.write_text(page, encoding="utf-8")


async def _load(members: tuple[Member, ...], children: list[Child], seconds: int, rate: int) -> Loaded:
    first = (await _get_status(members[0])).head.height
    chain_id = compute_chain_id(members[0].directory.read_genesis())
    sender = asyncio.create_task(asyncio.to_thread(run_sender, members[-1].rpc.url, chain_id, seconds, rate))
    phase = await _watch(members, children, seconds)
    offered, pool_max = await sender
    last = await _get_common_height(members)
    async with AsyncRpcClient(members[0].rpc.url) as client:
        blocks = [await _get_block(client, height) for height in range(first, last + 1)]
    counts = [len(block.transactions) for block in blocks[1:]]
    span_ms = blocks[-1].header.foliage.timestamp_ms - blocks[0].header.foliage.timestamp_ms
    return Loaded(phase, offered, sum(counts), span_ms / 1000, max(counts), pool_max)


async def _watch(members: tuple[Member, ...], children: list[Child], seconds: int) -> Phase:
    start_s, before = time.monotonic(), {child.name: _get_processor_s(child) for child in children}
    first, rates = (await _get_status(members[0])).head.height, []
    while time.monotonic() - start_s < seconds:
        await asyncio.sleep(POLL_S)
        status = await _get_status(members[0])
        if status.rates is not None:
            rates.append(status.rates.macs)
    spent = {child.name: _get_processor_s(child) - before[child.name] for child in children}
    last = (await _get_status(members[0])).head.height
    macs = int(statistics.mean(rates)) if rates else 0
    return Phase(time.monotonic() - start_s, last - first, macs, spent)


async def _wait_started(members: tuple[Member, ...]) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        for member in members:
            while True:
                try:
                    if (await _get_status(member)).peers >= NODES - 1:
                        break
                except NodeUnreachable:
                    pass
                await asyncio.sleep(POLL_S)


async def _wait_height(member: Member, height: int) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while (await _get_status(member)).head.height < height:
            await asyncio.sleep(POLL_S)


async def _get_common_height(members: tuple[Member, ...]) -> int:
    """Return the height of the last block that all nodes share."""
    height = min([(await _get_status(member)).head.height for member in members])
    while True:
        hashes = set()
        for member in members:
            async with AsyncRpcClient(member.rpc.url) as client:
                hashes.add((await client.call(methods.GET_BLOCK, methods.BlockParams(height))).header.hash)
        if len(hashes) == 1:
            return height
        height -= 1


async def _get_block(client: AsyncRpcClient, height: int) -> Block:
    view = await client.call(methods.GET_BLOCK, methods.BlockParams(height))
    return decode(Block, view.record, BLOCK_BYTES_MAX)


async def _get_status(member: Member) -> StatusView:
    async with AsyncRpcClient(member.rpc.url) as client:
        return await client.call(methods.GET_STATUS, Params())


def _get_processor_s(child: Child) -> float:
    fields = Path(f"/proc/{child.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _render(alone: Phase, loaded: Loaded, rate: int) -> str:
    phase = loaded.phase
    slowdown = 1 - phase.macs_per_s / alone.macs_per_s if alone.macs_per_s else 0.0
    rows = [
        ["offered, a second", f"{loaded.offered / phase.seconds:,.0f} (aim {rate:,})"],
        ["**in common blocks, a second of block time**", f"**{loaded.included / loaded.span_s:,.0f}**"],
        ["transactions in common blocks", f"{loaded.included:,} in {phase.blocks} blocks, {loaded.span_s:.0f} s"],
        ["largest block", f"{loaded.largest:,} transactions"],
        ["most that waited in the pool", f"{loaded.pool_max:,}"],
        ["seconds a block, before and under load", f"{_per(alone)} and {_per(phase)}"],
        ["miner's MACs a second, before and under load", f"{alone.macs_per_s:,} and {phase.macs_per_s:,}"],
        ["the miner is slower by", f"{100 * slowdown:.0f} %"],
    ]
    spent = [
        [name, f"{alone.processor_s[name] / alone.seconds:.2f}", f"{seconds / phase.seconds:.2f}"]
        for name, seconds in phase.processor_s.items()
    ]
    return "\n".join(
        [
            "# Transactions end to end\n",
            f"`python -m benchmarks.end_to_end` on {describe_run()}\n",
            f"{NODES} nodes and a miner at nice {NICENESS} on this machine; {LOAD_ACCOUNTS} accounts send for"
            f" {phase.seconds:.0f} s to the node that is not fed by the miner.\n",
            format_table(["what", "measured"], rows),
            format_table(["process", "cores before", "cores under load"], spent),
        ]
    )


def _per(phase: Phase) -> str:
    return f"{phase.seconds / max(1, phase.blocks):.1f}"


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--rate", type=int, default=1_100, help="transactions offered a second")
    parser.add_argument("--base-port", type=int, default=4810)
    options = parser.parse_args()
    asyncio.run(main_async(options.seconds, options.rate, options.base_port))


if __name__ == "__main__":
    main()
