"""One machine of the simulated world with the real node on it: it boots, fails, loses its power and boots again.

What it acknowledged as committed is written down outside of it, so that every boot can be held against it. It decides
nothing about when what happens to it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from benchmarks.lab.simulator.contributing import contribute
from benchmarks.lab.simulator.disk import Mount, VirtualDisk, VirtualEngine, VirtualFiles
from benchmarks.lab.simulator.journal import Journal
from benchmarks.lab.simulator.loop import Process, VirtualLoop
from benchmarks.lab.simulator.mining import mine
from benchmarks.lab.simulator.probes import attach_probes
from benchmarks.lab.simulator.setting import START_MS, Setting
from benchmarks.lab.simulator.wires import Host, VirtualDialler, VirtualListener, VirtualNetwork
from chain.errors import StorageError
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import BlockStore
from chain.transaction import Transaction, Transfer
from node.chain import Chain
from node.importer import HeadChange
from node.network import Endpoint
from node.signing_record import SigningRecord
from node.surroundings import Surroundings
from node.validator import Identity, Validator, make_validator

PORT = 9_000
RESTART_S = 5.0
"""After a node has stopped by itself."""


class InvariantBroken(Exception):
    """What must hold in every run did not hold."""

    def __init__(self, invariant: str, detail: str) -> None:
        """Name the invariant and say what was found."""
        super().__init__(invariant, detail)
        self.invariant = invariant
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"


UnhandledError = partial(InvariantBroken, "no error goes unhandled")


@dataclass(frozen=True, slots=True)
class World:
    """What all machines share."""

    loop: VirtualLoop
    network: VirtualNetwork
    journal: Journal
    setting: Setting
    failures: list[InvariantBroken] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Machine:
    """A place in the network with a disk, a clock, and a node that runs or does not."""

    world: World
    number: int
    host: Host
    key: SigningKey
    random: Random
    contributing: Random
    """Decides when its contributor looks at the head."""
    share: float
    """Of the work that the target expects."""
    seeds: tuple[str, ...] = ()
    on_boot: Callable[["Machine"], None] | None = None
    """Meddles with a node that is about to start."""
    is_rogue: bool = False
    is_forger: bool = False
    """Its segments are forged."""
    first_boot_s: float = 0.0
    """It does not exist before."""
    skew_ms: int = 0
    disk: VirtualDisk = field(default_factory=VirtualDisk)
    validator: Validator | None = None
    acknowledged: dict[Hash, int] = field(default_factory=dict)
    """Blocks that were committed, with the commit's number."""
    deepest_reorg: int = 0
    returned: dict[Transaction, float] = field(default_factory=dict)
    """Transfers on blocks that its node has left, with the time of that; its pool has to take them back."""
    _process: Process | None = None
    _mount: Mount | None = None

    @property
    def name(self) -> str:
        """A short name for the journal."""
        return f"n{self.number}"

    @property
    def is_up(self) -> bool:
        """Whether its node has opened its chain and lives."""
        return self.validator is not None

    @property
    def is_running(self) -> bool:
        """Whether a process exists, paused or not."""
        return self._process is not None

    @property
    def is_paused(self) -> bool:
        """Whether its process exists and stands still."""
        return self._process is not None and self._process.is_paused

    def get_time_ms(self) -> int:
        """Return Unix time as its clock shows it."""
        return START_MS + int(self.world.loop.time() * 1000) + self.skew_ms

    def boot_if_down(self) -> None:
        """Start a node on what the disk holds, unless one runs."""
        if self._process is not None or self.world.loop.time() < self.first_boot_s:
            return
        self.world.journal.note("boot", self.name)
        self._process, self._mount = Process(self.name), Mount(self.disk)
        self.disk.on_power_lost = lambda: self.crash(is_silent=False)
        task = self.world.loop.spawn(self._process, self._serve(self._mount))
        task.add_done_callback(partial(self._on_end, self._process), context=self.world.loop.world)

    def crash(self, *, is_silent: bool) -> None:
        """Lose the power, or be killed; peers learn of a silent one only when the machine is back."""
        process, mount = self._process, self._mount
        if process is None or mount is None:
            return
        self.world.journal.note("crash", self.name, is_silent)
        self._process, self._mount, self.validator = None, None, None
        self.returned.clear()
        process.is_dead, mount.is_cut = True, True
        self.host.listeners.clear()
        self.world.network.break_wires(self.host, is_silent=is_silent)
        # The moment may be one of its own callbacks, which has to end before it can be unwound.
        self.world.loop.call_soon(self.world.loop.kill, process, context=self.world.loop.world)

    def pause(self) -> None:
        """Stop it as SIGSTOP does."""
        if self._process is not None:
            self.world.journal.note("pause", self.name)
            self._process.is_paused = True

    def resume(self) -> None:
        """Let it go on."""
        if self.is_paused:
            assert self._process is not None
            self.world.journal.note("resume", self.name)
            self.world.loop.resume(self._process)
            self.returned = dict.fromkeys(self.returned, self.world.loop.time())

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run something inside its node's process; nothing when there is none."""
        if self._process is None:
            work.close()
        else:
            self.world.loop.spawn(self._process, work)

    async def _serve(self, mount: Mount) -> None:
        validator = self._open(mount)
        self.validator = validator
        if self.on_boot is not None:
            self.on_boot(self)
        tasks: list[asyncio.Task[None]] = []
        try:
            await validator.start(Endpoint(self.host.address, PORT), tuple(Endpoint(s, PORT) for s in self.seeds))
            mining = mine(self.world.setting, validator.parts, self.share, self.random)
            training = contribute(self.world.setting, validator, self.contributing, is_forger=self.is_forger)
            tasks = [asyncio.create_task(work) for work in (validator.network.wait_failed(), mining, training)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            self.validator = None
            for task in tasks:
                task.cancel()
            await validator.stop()

    def _open(self, mount: Mount) -> Validator:
        setting, files = self.world.setting, VirtualFiles(mount)
        chain = Chain(BlockStore(VirtualEngine(mount, self.name)), BlobStore(Path("blobs"), files), setting.context)
        self._check_memory(chain)
        identity = Identity(self.key, SigningRecord(Path("signed"), files))
        surroundings = Surroundings(
            VirtualListener(self.host),
            VirtualDialler(self.world.network, self.host),
            self.random.randbytes,
            self.get_time_ms,
        )
        validator = make_validator(chain, setting.task, identity, surroundings, setting.verify)
        validator.parts.importer.listeners.append(lambda change: self._on_head(chain, change))
        attach_probes(validator, self.name, self.world.journal)
        return validator

    def _check_memory(self, chain: Chain) -> None:
        """Hold an opened chain against what was acknowledged before."""
        generation = chain.store.get_tip().generation
        for block_hash, number in self.acknowledged.items():
            if number > generation or not chain.store.has_block(block_hash):
                found = f"{self.name} came back without the block {block_hash.hex()[:16]} of commit {number}"
                raise InvariantBroken("no acknowledged block is lost", found)

    def _on_head(self, chain: Chain, change: HeadChange) -> None:
        tip = chain.store.get_tip()
        for entry, _, _ in change.connected:
            self.acknowledged[entry.hash] = tip.generation
        left, now_s = len(change.disconnected), self.world.loop.time()
        for block in change.disconnected:
            self.returned |= {each: now_s for each in block.transactions if isinstance(each.body.action, Transfer)}
        for _, block, _ in change.connected:
            for transaction in block.transactions:
                self.returned.pop(transaction, None)
        self.deepest_reorg = max(self.deepest_reorg, left)
        self.world.journal.note("reorg" if left else "head", self.name, tip.height, tip.hash.hex()[:16], left)

    def _on_end(self, process: Process, task: "asyncio.Task[None]") -> None:
        """Learn that the node has ended by itself, and let it be started again as a supervisor does."""
        if process.is_dead:
            return
        error = task.exception()
        if not isinstance(error, StorageError):
            found = f"{self.name} ended with {error!r}"
            self.world.failures.append(error if isinstance(error, InvariantBroken) else UnhandledError(found))
        self.world.journal.note("stop", self.name, type(error).__name__)
        process.is_dead = True
        self._process, self._mount = None, None
        self.returned.clear()
        self.world.network.break_wires(self.host)
        self.world.loop.call_soon(self.world.loop.kill, process)
        self.world.loop.call_later(RESTART_S, self.boot_if_down)
