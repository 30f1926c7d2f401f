"""A network in memory: wires that delay, stall and break as the world says, behind the ports that a node dials through.

Messages of one wire arrive whole and in order. While two hosts are parted nothing passes between them, neither data nor
the news of an end; all of it arrives when they can reach each other again. A sender waits when too much is under way.
It knows no frame and no node; hosts are addresses.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random

from benchmarks.lab.simulator.journal import Journal
from benchmarks.lab.simulator.loop import VirtualLoop
from chain.primitives import Hash
from node.surroundings import WirePort
from p2p.errors import RemoteProtocolError
from p2p.messages import FRAME_BYTES_MAX

WINDOW_BYTES = 256 * 1024
"""Bytes under way or unread on one wire before its sender waits."""
DELAY_S_MIN, DELAY_S_MEAN = 0.005, 0.05
"""One way between two hosts: at least the first, and so much more on average."""
RESENT_S_MEAN = 1.5
"""How much later a message arrives of which something was lost: the system below sends it again."""

OnWire = Callable[[WirePort], Awaitable[None]]


@dataclass(eq=False, slots=True)
class Host:
    """One machine's place in the network."""

    address: str
    bytes_per_s: int = 1 << 24
    delay_s_mean: float = DELAY_S_MEAN
    loss_chance: float = 0.0
    listeners: dict[int, tuple[OnWire, Context]] = field(default_factory=dict)
    wires: dict["VirtualWire", None] = field(default_factory=dict)


class VirtualWire:
    """One end of a connection."""

    def __init__(self, network: "VirtualNetwork", local: Host, remote: Host, certificate_hash: Hash) -> None:
        """Stand alone until it is given its other end."""
        self.address = remote.address
        self.certificate_hash = certificate_hash
        self.local, self.remote = local, remote
        self.other: VirtualWire
        self.is_cut = False
        self._network = network
        self._inbox: deque[bytes] = deque()
        self._pending_bytes = 0
        self._has_ended = False
        self._changed = asyncio.Event()
        self._arrives_s = 0.0
        self._held: deque[bytes | None] = deque()

    async def receive(self) -> bytes | None:
        """Return the next message, None when the wire is closed; raises RemoteProtocolError as a real one does."""
        while not self._inbox and not self._has_ended:
            self._changed.clear()
            await self._changed.wait()
        if not self._inbox:
            return None
        data = self._inbox.popleft()
        self.other.on_read(len(data))
        if len(data) > FRAME_BYTES_MAX:
            raise RemoteProtocolError("websocket", f"found {len(data)} bytes, expected at most {FRAME_BYTES_MAX}")
        return data

    async def send(self, data: bytes) -> None:
        """Send one message; returns when there is room. Raises OSError when the wire is broken."""
        while self._pending_bytes >= WINDOW_BYTES and not self._has_ended:
            self._changed.clear()
            await self._changed.wait()
        if self._has_ended:
            raise ConnectionError("the wire is closed")
        self._pending_bytes += len(data)
        self._pass(data)

    async def close(self) -> None:
        """Close this end; the other learns of it behind what was sent."""
        self.end()

    def end(self, *, is_silent: bool = False) -> None:
        """Close this end at once; the other learns nothing of it when it `is_silent`."""
        if self._has_ended:
            return
        self._stop()
        if not is_silent:
            self._pass(None)

    def on_read(self, count: int) -> None:
        """Learn that the other end has read."""
        self._pending_bytes -= count
        self._changed.set()

    def release(self) -> None:
        """Pass on what was held while the hosts were parted."""
        held, self._held = self._held, deque()
        for data in held:
            self._pass(data)

    def _pass(self, data: bytes | None) -> None:
        if self._network.is_parted(self.local, self.remote):
            self._held.append(data)
            return
        delay_s = self._network.draw_delay_s(self.local, self.remote, len(data or b""))
        self._arrives_s = max(self._arrives_s, self._network.loop.time() + delay_s)
        self._network.loop.call_at(self._arrives_s, self.other.on_arrival, data, context=self._network.loop.world)

    def on_arrival(self, data: bytes | None) -> None:
        """Take what the other end sent, None for its end."""
        if self._has_ended:
            if data is not None:
                # Whoever writes to an end that is gone learns so, as from a reset.
                self._pass(None)
            return
        if data is None:
            self._stop()
            return
        self._network.journal.note("wire", self.local.address, self.address, len(data), sha256(data).hexdigest()[:16])
        self._inbox.append(data)
        self._changed.set()

    def _stop(self) -> None:
        self._has_ended = True
        self.local.wires.pop(self, None)
        self._changed.set()


class VirtualNetwork:
    """All hosts, and which of them are parted."""

    def __init__(self, loop: VirtualLoop, random: Random, journal: Journal) -> None:
        """Start without hosts."""
        self.loop = loop
        self.journal = journal
        self._random = random
        self._hosts: dict[str, Host] = {}
        self._side: dict[str, int] = {}
        self._opened = 0

    def add_host(self, address: str, bytes_per_s: int) -> Host:
        """Return the host of an address, made new."""
        host = self._hosts[address] = Host(address, bytes_per_s)
        return host

    def is_parted(self, one: Host, other: Host) -> bool:
        """Say whether nothing passes between two hosts."""
        return self._side.get(one.address, 0) != self._side.get(other.address, 0)

    def part(self, side: dict[str, int]) -> None:
        """Let hosts reach only those of their own side; those not named are on side 0."""
        self._side = side
        for host in self._hosts.values():
            for wire in list(host.wires):
                wire.release()

    def draw_delay_s(self, one: Host, other: Host, count: int) -> float:
        """Return how long `count` bytes take."""
        slowest, loss_chance = min(one.bytes_per_s, other.bytes_per_s), max(one.loss_chance, other.loss_chance)
        is_lost = loss_chance > 0 and self._random.random() < loss_chance
        resent_s = self._random.expovariate(1 / RESENT_S_MEAN) if is_lost else 0.0
        way_s = self._random.expovariate(1 / min(one.delay_s_mean, other.delay_s_mean))
        return DELAY_S_MIN + way_s + resent_s + count / slowest

    def break_wires(self, host: Host, *, is_silent: bool = False) -> None:
        """End every wire of a host, as a crash does; with its power lost it does not even say so."""
        for wire in list(host.wires):
            wire.end(is_silent=is_silent)

    def get_wires(self) -> list[VirtualWire]:
        """Return every open end, oldest first."""
        return [wire for host in self._hosts.values() for wire in host.wires]

    async def dial(self, local: Host, address: str, port: int, timeout_s: float) -> VirtualWire:
        """Connect; raises OSError."""
        remote = self._hosts.get(address)
        if remote is None or self.is_parted(local, remote):
            await asyncio.sleep(timeout_s)
            raise TimeoutError(f"{address} does not answer")
        await asyncio.sleep(2 * self.draw_delay_s(local, remote, 0))
        if port not in remote.listeners or self.is_parted(local, remote):
            raise ConnectionRefusedError(f"{address}:{port} refuses")
        on_wire, context = remote.listeners[port]
        near, far = self._make_pair(local, remote)

        async def accept() -> None:
            await on_wire(far)

        self.loop.create_task(accept(), context=context.copy())
        return near

    def _make_pair(self, local: Host, remote: Host) -> tuple[VirtualWire, VirtualWire]:
        self._opened += 1
        name = Hash(sha256(self._opened.to_bytes(8, "big")).digest())
        near, far = VirtualWire(self, local, remote, name), VirtualWire(self, remote, local, name)
        near.other, far.other = far, near
        local.wires[near], remote.wires[far] = None, None
        return near, far


@dataclass(frozen=True, slots=True)
class VirtualListener:
    """One host's listening end."""

    host: Host

    async def start(self, host: str, port: int, on_wire: OnWire) -> int:
        """Listen at a port; raises OSError when it is taken."""
        del host
        if port in self.host.listeners:
            raise OSError(f"port {port} is taken")
        self.host.listeners[port] = (on_wire, copy_context())
        return port

    async def stop(self) -> None:
        """Listen no more."""
        self.host.listeners.clear()


@dataclass(frozen=True, slots=True)
class VirtualDialler:
    """One host's way out."""

    network: VirtualNetwork
    host: Host

    async def dial(self, host: str, port: int, timeout_s: float) -> VirtualWire:
        """Connect; raises OSError."""
        return await self.network.dial(self.host, host, port, timeout_s)

    async def stop(self) -> None:
        """Close every wire of the host."""
        self.network.break_wires(self.host)
