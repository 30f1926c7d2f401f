"""What a node takes from the machine it runs on: wires to other nodes, randomness, threads, and the time of day.

Handed in, so that the same node runs over sockets and in a simulated world in which one seed decides everything. It
knows no peer and no rule. Time that only passes, for delays and deadlines, is the event loop's.
"""

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from chain.primitives import Hash
from consensus.header_rules import Spread
from node.threads import spread_in_line, spread_over_threads
from node.transport import Dialler, Listener
from p2p.limits import Limits


class WirePort(Protocol):
    """One end of a connection that carries messages whole and in order."""

    @property
    def address(self) -> str:
        """The other end's address."""
        ...

    @property
    def certificate_hash(self) -> Hash:
        """SHA-256 of the responder's certificate as this end sees it."""
        ...

    async def receive(self) -> bytes | None:
        """Return the next message, None when the wire is closed; raises RemoteProtocolError."""
        ...

    async def send(self, data: bytes) -> None:
        """Send one message; raises OSError when the wire is broken."""
        ...

    async def close(self) -> None:
        """Close this end, and soon the other."""
        ...


class ListenerPort(Protocol):
    """Accepts wires."""

    async def start(self, host: str, port: int, on_wire: Callable[[WirePort], Awaitable[None]]) -> int:
        """Hand each new wire to a callback that keeps it open; return the port. Raises OSError when it is taken."""
        ...

    async def stop(self) -> None:
        """Accept no more and close what was accepted."""
        ...


class DiallerPort(Protocol):
    """Opens wires."""

    async def dial(self, host: str, port: int, timeout_s: float) -> WirePort:
        """Connect; raises OSError (TimeoutError too) when there is no node."""
        ...

    async def stop(self) -> None:
        """Close every wire that was opened."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One node's machine; `get_random_bytes` takes a length, `get_time_ms` is Unix time.

    `spread` runs the ranges of one work, on several threads where there are some.
    """

    listener: ListenerPort
    dialler: DiallerPort
    get_random_bytes: Callable[[int], bytes]
    get_time_ms: Callable[[], int]
    spread: Spread = spread_in_line


def get_time_ms() -> int:
    """Return Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def make_surroundings(limits: Limits) -> Surroundings:
    """Return this machine's sockets, randomness and clock; makes a certificate."""
    listener, spread = Listener(limits), spread_over_threads(os.cpu_count() or 1)
    return Surroundings(listener, Dialler(), os.urandom, get_time_ms, spread)
