"""One disturbed network: nodes and miners started, steps carried out at their heights, one chain expected at the end.

It talks to nodes over RPC like anybody, and judges them by what they answer: the same header at the agreed height on
every node, that header's state, and no trace of a failure in a log.
"""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab.perturb.cables import Cables
from benchmarks.lab.perturb.manifest import Action, Manifest, Step
from chain.genesis import Parameters
from node.data_directory import DataDirectory
from node.devnet.genesis import DEFAULTS, Members, make_devnet_genesis
from node.devnet.processes import Child, start_program, stop_children
from node.keystore import load_key, make_key, write_key
from node.rpc.client import AsyncRpcClient, NodeUnreachable, RemoteError
from node.rpc.methods import GET_BLOCK, GET_STATUS, BlockParams
from node.rpc.registry import Params

POLL_S = 0.25
DEPTH_BLOCKS = 2
"""Blocks above the agreed one: the youngest may yet be reorganised."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it; `problems` is empty when all is well."""

    height: int
    seconds: float
    restarts: int
    problems: tuple[str, ...]


@dataclass(slots=True)
class DisturbedNetwork:
    """The processes of one run; `report` takes a line about each thing that happens."""

    manifest: Manifest
    cables: Cables
    root: Path
    timeout_s: float
    report: Report
    parameters: Parameters = DEFAULTS
    nodes: dict[int, Child] = field(default_factory=dict)
    miners: dict[int, Child] = field(default_factory=dict)
    restarts: int = 0

    async def run(self) -> Verdict:
        """Run to the agreed height; every process is gone afterwards."""
        start_s = time.monotonic()
        self._prepare()
        try:
            await asyncio.gather(*map(self._start, self._numbers))
            disturbances = asyncio.create_task(self._disturb())
            problems = await self._reach(self.manifest.blocks + DEPTH_BLOCKS, disturbances)
            height = await self._get_height()
        finally:
            for child in self.nodes.values():
                if child.is_running:
                    child.process.send_signal(signal.SIGCONT)
            await stop_children([*self.miners.values(), *self.nodes.values()])
        return Verdict(height, time.monotonic() - start_s, self.restarts, (*problems, *self._find_traces()))

    @property
    def _numbers(self) -> range:
        return range(1, self.manifest.nodes + 1)

    def _prepare(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        directories = [self._get_directory(number) for number in self._numbers]
        for directory in directories:
            directory.create()
            write_key(directory.key_path, make_key(), "", is_development=True)
        accounts = tuple(load_key(directory.key_path, "").public_key for directory in directories)
        genesis = make_devnet_genesis(
            Members(accounts, self.manifest.miners), time.time_ns() // 1_000_000, self.parameters
        )
        for directory in directories:
            directory.write_genesis(genesis)

    async def _start(self, number: int) -> None:
        directory, p2p, rpc = self._get_directory(number), self.cables.get_p2p(number), self.cables.get_rpc(number)
        arguments = ["node", "--dir", str(directory.root), "--p2p", p2p.text, "--rpc", rpc.text]
        for other in self._numbers:
            if other != number:
                arguments += ["--peer", self.cables.get_p2p(other).text]
        self.nodes[number] = await self._start_program(f"node {number}", number, arguments, directory.log_path)
        # A miner needs its node's cookie.
        while await self._get_node_height(number) < 0 and self.nodes[number].is_running:
            await asyncio.sleep(POLL_S)
        miner = self.miners.get(number)
        if number <= self.manifest.miners and (miner is None or not miner.is_running):
            arguments = ["mine", "--dir", str(directory.root), "--rpc", rpc.url]
            log_path = directory.root / "miner.log"
            self.miners[number] = await self._start_program(f"miner {number}", number, arguments, log_path)

    async def _start_program(self, name: str, number: int, arguments: list[str], log_path: Path) -> Child:
        command = [sys.executable, "-m", "node.cli", *arguments]
        return await start_program(name, self.cables.wrap(number, command), log_path)

    async def _disturb(self) -> None:
        for step in self.manifest.steps:
            while await self._get_height() < step.height:
                await asyncio.sleep(POLL_S)
            self.report(f"height {step.height}: {step.action.value} node {step.node} for {step.seconds} s")
            await self._carry_out(step)

    async def _carry_out(self, step: Step) -> None:
        child = self.nodes[step.node]
        if step.action is Action.DISCONNECT:
            self.cables.set_plugged(step.node, False)
            await asyncio.sleep(step.seconds)
            self.cables.set_plugged(step.node, True)
        elif step.action is Action.PAUSE:
            os.kill(child.process.pid, signal.SIGSTOP)
            await asyncio.sleep(step.seconds)
            os.kill(child.process.pid, signal.SIGCONT)
        else:
            child.process.send_signal(signal.SIGKILL if step.action is Action.KILL else signal.SIGTERM)
            await child.process.wait()
            await asyncio.sleep(step.seconds)
            self.restarts += 1
            await self._start(step.node)

    async def _reach(self, goal: int, disturbances: asyncio.Task[None]) -> tuple[str, ...]:
        """Wait until all steps are done and every node stands on one branch at `goal`; return what is wrong else."""
        try:
            async with asyncio.timeout(self.timeout_s):
                await disturbances
                while True:
                    hashes = [await self._get_hash(number, goal - DEPTH_BLOCKS) for number in self._numbers]
                    heights = [await self._get_node_height(number) for number in self._numbers]
                    if min(heights) >= goal and None not in hashes and len(set(hashes)) == 1:
                        return ()
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            disturbances.cancel()
            found = {number: await self._get_node_height(number) for number in self._numbers}
            return (f"no agreement at height {goal} within {self.timeout_s:.0f} s; heights by node: {found}",)

    async def _get_height(self) -> int:
        return max([await self._get_node_height(number) for number in self._numbers])

    async def _get_node_height(self, number: int) -> int:
        try:
            async with asyncio.timeout(2), AsyncRpcClient(self.cables.get_rpc(number).url) as client:
                return (await client.call(GET_STATUS, Params())).head.height
        except (NodeUnreachable, TimeoutError):
            return -1

    async def _get_hash(self, number: int, height: int) -> str | None:
        """Return the hash of the header at `height`, which names the state too."""
        try:
            async with asyncio.timeout(2), AsyncRpcClient(self.cables.get_rpc(number).url) as client:
                return (await client.call(GET_BLOCK, BlockParams(height))).header.hash
        except (NodeUnreachable, RemoteError, TimeoutError):
            return None

    def _find_traces(self) -> tuple[str, ...]:
        logs = sorted(self.root.glob("*/*.log"))
        return tuple(f"a trace in {path}" for path in logs if "Traceback" in path.read_text(errors="replace"))

    def _get_directory(self, number: int) -> DataDirectory:
        return DataDirectory(self.root / f"node{number}")
