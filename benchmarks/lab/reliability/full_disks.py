"""Disks that are full: from the start, from a chosen write on, or because the chain has grown; each is a small tmpfs.

Right before a chosen write everything that is left of the disk is taken, and the write then fails for real. The node
must end with the exit code of a full disk, and with room again must start on what it had told of, and go on.
"""

import asyncio
import multiprocessing
import multiprocessing.process
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.lab.reliability.chains import Rules, Truth, make_rules, read_balances
from benchmarks.lab.reliability.directories import make_directory, make_options, open_node, produce
from benchmarks.lab.reliability.disks import Site, Trap, make_trapped_disk
from benchmarks.lab.reliability.part import Result, Setup, tell
from benchmarks.lab.reliability.remote import find_endpoints, mine_block
from chain.errors import MathesisError
from node.cli.main import get_exit_code
from node.data_directory import DataDirectory
from node.exit_codes import ExitCode
from node.options import NodeOptions
from node.rpc.client import NodeUnreachable, RemoteError, RpcClient
from node.run import run

DISK_BYTES = 16 * 2**20
BALLAST = "ballast"
END_S = 90.0
START_S = 0.1
"""Between attempts to reach a node that starts."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """How a disk becomes full: at a site, or with so many bytes left when the node starts."""

    site: Site | None = None
    left_bytes: int | None = None
    is_grown: bool = False
    """Whether the directory holds a chain already."""

    @property
    def name(self) -> str:
        """What it is called."""
        grown = "a grown directory" if self.is_grown else "a new directory"
        if self.site is None:
            return f"{self.left_bytes:,} bytes left in {grown}"
        return f"{self.site.point} write {self.site.number} to {self.site.where} in {grown}"


SHORTAGES = (
    *(Shortage(left_bytes=left, is_grown=grown) for left in (0, 65_536, 524_288) for grown in (False, True)),
    *(Shortage(Site("database", number)) for number in (1, 2, 3, 6)),
    *(Shortage(Site("signed", number)) for number in (1, 2, 5)),
    Shortage(Site("blobs", 1)),
    *(Shortage(Site(where, 1, "after")) for where in ("database", "signed", "blobs")),
    *(Shortage(Site(where, number), is_grown=True) for where in ("database", "signed") for number in (1, 4)),
    Shortage(Site("database", 2, "after"), is_grown=True),
)
"""The write sites of a node, those of its start included."""


def run_full_disks(setup: Setup) -> Result:
    """Fill a disk at each site in turn."""
    rules, result = make_rules(setup.root / "rules"), Result()
    for seed in setup.seeds:
        shortage = SHORTAGES[seed % len(SHORTAGES)]
        try:
            with _mount(setup.root / "disk"):
                _run_case(rules, setup.root / "disk", shortage, seed, result)
        except PermissionError as error:
            result.skipped = str(error)
            return result
        result.reached += 1
        tell(setup, result, "disks")
    result.figures["write sites"] = str(min(result.reached, len(SHORTAGES)))
    return result


@contextmanager
def _mount(place: Path) -> Iterator[None]:
    """Hold a small disk at `place`; raises PermissionError where that is not allowed."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(place)]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode:
        raise PermissionError("a small disk needs root on Linux, with `mount`")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _run_case(rules: Rules, disk: Path, shortage: Shortage, seed: int, result: Result) -> None:
    directory = make_directory(rules, disk / "node")
    if shortage.is_grown:
        asyncio.run(_grow(rules, directory, 3))
    p2p, rpc = find_endpoints(2)
    options = replace(make_options(directory), p2p=p2p, rpc=rpc)
    if shortage.left_bytes is not None:
        fill(disk, shortage.left_bytes)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.lab.reliability.warm"])
    process = context.Process(target=serve, args=(options, shortage.site, disk), daemon=True)
    process.start()
    told = _mine_until_it_ends(rules, options, directory, process)
    if process.exitcode != ExitCode.DISK_FULL:
        result.fail(seed, f"{shortage.name}: exit code {process.exitcode}, expected {ExitCode.DISK_FULL.value}")
    (disk / BALLAST).unlink(missing_ok=True)
    try:
        asyncio.run(_check(rules, directory, told))
    except (MathesisError, AssertionError) as error:
        result.fail(seed, f"{shortage.name}: with room again: {error}")


def serve(options: NodeOptions, site: Site | None, disk: Path) -> None:
    """Run a node as the command does, whose disk is full from a site on; ends the process."""
    with disk.with_name("nodes.log").open("ab") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
    trapped = None if site is None else make_trapped_disk(Trap(site, lambda: fill(disk, 0)))
    try:
        code = run(options, trapped)
    except (MathesisError, OSError) as error:
        code = get_exit_code(error)
    sys.exit(code)


def fill(disk: Path, left_bytes: int) -> None:
    """Take what is left of a disk but for so many bytes."""
    path = disk / BALLAST
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    continue
    if left_bytes:
        with path.open("r+b") as file:
            file.truncate(max(0, path.stat().st_size - left_bytes))


def _mine_until_it_ends(
    rules: Rules, options: NodeOptions, directory: DataDirectory, process: multiprocessing.process.BaseProcess
) -> int:
    """Mine through the RPC until the node has ended; return the last height that it has told of."""
    told, waited_s = 0, 0.0
    while process.is_alive() and waited_s < END_S:
        process.join(START_S)
        waited_s += START_S
        with suppress(NodeUnreachable, RemoteError, OSError):
            client = RpcClient(options.rpc.url, directory.cookie_path.read_text())
            while True:
                told = mine_block(rules.setting, client) or told
    if process.is_alive():
        process.kill()
        process.join()
    return told


async def _grow(rules: Rules, directory: DataDirectory, count: int) -> None:
    async with open_node(directory, rules.setting.miners[0]) as node:
        for _ in range(count):
            await produce(node, rules.setting)


async def _check(rules: Rules, directory: DataDirectory, told: int) -> None:
    """Start again: what was told of is there, it leads to the balances that it must, and the chain goes on."""
    truth = Truth(rules)
    async with open_node(directory, rules.setting.miners[0]) as node:
        chain = node.parts.chain
        assert chain.head.height in (told, told + 1) or not told, f"told of {told}, found {chain.head.height}"
        for height in range(1, chain.head.height + 1):
            truth.learn(chain.get_existing_block(chain.head.get_ancestor(height).hash))
        found, expected = read_balances(chain.view(), rules.setting), truth.get_balances(chain.head.hash)
        assert found == expected, f"found balances {found}, expected {expected}"
        await produce(node, rules.setting)
