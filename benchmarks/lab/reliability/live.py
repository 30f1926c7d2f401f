"""A real `mathesis node` over a prepared directory, and what an honest caller and an honest peer see of it.

Latencies are measured from outside; memory and lateness are what the kernel and the node's own metrics say.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from benchmarks.lab.reliability.guests import announce, join, serve, wait_for_height
from benchmarks.lab.reliability.remote import find_endpoints
from benchmarks.lab.simulator.setting import Setting
from chain.block import Block
from chain.codec import encode
from chain.header import compute_header_hash
from chain.primitives import Hash
from node.addresses import format_address
from node.data_directory import DataDirectory
from node.devnet.processes import start_child, stop_children
from node.options import Endpoint
from node.rpc.client import AsyncRpcClient, NodeUnreachable
from node.rpc.methods import GET_ACCOUNT, GET_STATUS, AccountParams
from node.rpc.registry import Params
from node.transport import Dialler
from p2p.messages import ItemKind

START_S = 120.0
POLL_S = 0.2
CALL_EVERY_S = 0.02
BLOCK_EVERY_S = 0.25
BLOCK_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Live:
    """A running node."""

    pid: int
    p2p: Endpoint
    rpc: Endpoint

    def read_memory_bytes(self, field_name: str = "VmRSS") -> int:
        """Return resident memory now, or the most there ever was (`VmHWM`)."""
        found = re.search(rf"{field_name}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def forget_peak(self) -> None:
        """Let the most memory there ever was begin anew; Linux lets the owner of a process do that."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    async def read_metrics(self) -> dict[str, float]:
        """Return the node's metrics by name, labels included."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.rpc.url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}


@asynccontextmanager
async def run_node(directory: DataDirectory) -> AsyncIterator[Live]:
    """Run a node in a process of its own until the end of the block; raises TimeoutError."""
    p2p, rpc = find_endpoints(2)
    arguments = ["node", "--dir", str(directory.root), "--p2p", p2p.text, "--rpc", rpc.text, "--log-level", "error"]
    child = await start_child("node", arguments, directory.log_path)
    try:
        async with asyncio.timeout(START_S), AsyncRpcClient(rpc.url) as client:
            while not await _answers(client):
                await asyncio.sleep(POLL_S)
        yield Live(child.process.pid, p2p, rpc)
    finally:
        await stop_children([child])


async def _answers(client: AsyncRpcClient) -> bool:
    try:
        await client.call(GET_STATUS, Params())
    except NodeUnreachable:
        return False
    return True


@dataclass(slots=True)
class Seen:
    """Latencies in milliseconds, as honest others meet them."""

    calls: list[float] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)


async def watch(live: Live, setting: Setting, blocks: list[Block]) -> Seen:
    """Call the node and hand it blocks, each behind the one before, and return how long each took."""
    seen, stopping = Seen(), asyncio.Event()
    caller = asyncio.create_task(_call(live, setting, seen, stopping))
    try:
        await _hand_over(live, setting, blocks, seen)
    finally:
        stopping.set()
        await caller
    return seen


async def _call(live: Live, setting: Setting, seen: Seen, stopping: asyncio.Event) -> None:
    account = AccountParams(format_address(setting.accounts[0].public_key))
    async with AsyncRpcClient(live.rpc.url) as client:
        while not stopping.is_set():
            start_s = time.perf_counter()
            await client.call(GET_ACCOUNT, account)
            seen.calls.append((time.perf_counter() - start_s) * 1000)
            await asyncio.sleep(CALL_EVERY_S)


async def _hand_over(live: Live, setting: Setting, blocks: list[Block], seen: Seen) -> None:
    dialler, held = Dialler(), dict[Hash, bytes]()
    try:
        async with join(dialler, live.p2p, setting) as link:
            heights = serve(link, held, {})
            for block in blocks:
                name = compute_header_hash(block.header)
                held[name] = encode(block)
                start_s = time.perf_counter()
                await announce(link, ItemKind.BLOCK, [name])
                await wait_for_height(link, heights, block.header.height, BLOCK_TIMEOUT_S)
                seen.blocks.append((time.perf_counter() - start_s) * 1000)
                await asyncio.sleep(BLOCK_EVERY_S)
    finally:
        await dialler.stop()
