"""The numbers that bound a peer, in one table, and the two tools that enforce them: a bucket and a bounded set.

Times are integers of milliseconds handed in by the caller; no clock is read here.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

MIB = 1024 * 1024
T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one node grants its peers."""

    handshake_ms: int = 5_000
    """From the TCP connection to the verified handshake."""
    inbound_max: int = 32
    """Connections that others opened and whose handshake is over."""
    full_max: int = 8
    """Connections that we opened to addresses of the book, for all content."""
    block_only_max: int = 2
    """Connections that we opened for blocks alone, so that they are hard to find from what else we tell."""
    static_max: int = 32
    """Peers that are named by whoever runs the node and always dialled again."""
    accepts_per_s: int = 20
    """TCP connections accepted a second: a handshake takes some 4 ms, so strangers get a twelfth of a core at most."""
    accepts_burst: int = 64
    """Connections accepted at once after a quiet time: all that a node may have, when its machine comes back."""
    half_open_max: int = 16
    """Inbound connections whose handshake is not over."""
    inbound_per_address_max: int = 2
    """Connections from one address; loopback is exempt, as development networks live there."""
    inbound_per_prefix_max: int = 4
    """Connections from one IPv4 /16 or IPv6 /32; loopback is exempt."""
    receive_bytes_per_s: int = 5 * MIB
    """Refill of the receive bucket; a faster peer is read more slowly."""
    receive_burst_bytes: int = 16 * MIB
    """Size of the receive bucket."""
    send_queue_bytes_max: int = 8 * MIB
    """Bytes waiting for a peer that does not read; beyond, it is dropped."""
    serve_backlog_max: int = 4_096
    """Questions of one peer that wait for their answers; beyond, it is dropped."""
    known_items_max: int = 16_384
    """Hashes remembered as known to one peer."""
    wants_per_peer_max: int = 4_096
    """Items that one peer may have us look for."""
    in_flight_max: int = 16
    """Items asked of one peer and not yet answered, transactions left out."""
    in_flight_new: int = 2
    """The same of a peer that has brought no good block yet; doubles with each one. Blocks are read before they are
    judged, and whoever brings a bad one is dropped: so much can one have us read that comes back under another key."""
    transactions_in_flight_max: int = 512
    """Transactions asked of one peer and not yet answered: at 1,000 a second, those of half a second."""
    transactions_open_max: int = 1_024
    """Transactions asked for or not yet judged, of all peers: more are not asked for until these are."""
    block_window: int = 1_024
    """How many missing blocks ahead of the head are asked for: half of what may wait for its turn."""
    compact_open_max: int = 16
    """Compact blocks that wait for some of their transactions."""
    pending_max: int = 2_048
    """Blocks and transactions that wait for a parent or for sidecars."""
    pending_bytes_max: int = 64 * MIB
    """Their bytes, sidecars included."""
    pending_ms: int = 120_000
    """How long one of them may wait."""
    orphans_max: int = 100
    """Waiting blocks whose parent is not even on the way."""
    stall_ms_min: int = 2_000
    """A peer that owes items and delivers none for this long is stalling; doubles with each stall."""
    stall_ms_max: int = 64_000
    """Where the doubling ends."""
    headers_ms: int = 10_000
    """How long a question for headers may stay unanswered."""
    ping_ms: int = 30_000
    """Silence after which a Ping is sent; three times as long ends the connection."""


class TokenBucket:
    """A budget that refills with time; overdrawing it is paid by waiting."""

    def __init__(self, rate_per_s: int, burst: int, level: int | None = None) -> None:
        """Start with `level` tokens, full by default: `burst` of them, refilled by `rate_per_s` a second."""
        self._rate_per_s = rate_per_s
        self._burst_milli = burst * 1000
        self._level_milli = self._burst_milli if level is None else level * 1000
        self._updated_ms: int | None = None

    def take(self, tokens: int, now_ms: int) -> int:
        """Take `tokens` and return how many milliseconds to wait before going on."""
        self._refill(now_ms)
        self._level_milli -= tokens * 1000
        return max(0, -(self._level_milli // self._rate_per_s))

    def try_take(self, tokens: int, now_ms: int) -> bool:
        """Take `tokens` if they are there."""
        self._refill(now_ms)
        if self._level_milli < tokens * 1000:
            return False
        self._level_milli -= tokens * 1000
        return True

    def _refill(self, now_ms: int) -> None:
        elapsed_ms = max(0, now_ms - (self._updated_ms if self._updated_ms is not None else now_ms))
        self._updated_ms = now_ms
        self._level_milli = min(self._burst_milli, self._level_milli + elapsed_ms * self._rate_per_s)


class BoundedSet(Generic[T]):
    """A set that forgets its oldest members when it is full."""

    def __init__(self, size_max: int) -> None:
        """Start empty, for at most `size_max` members."""
        self._size_max = size_max
        # A plain dictionary would walk over all that went from its front to find what is oldest.
        self._members: OrderedDict[T, None] = OrderedDict()

    def add(self, member: T) -> None:
        """Take `member` as the newest."""
        self._members[member] = None
        self._members.move_to_end(member)
        if len(self._members) > self._size_max:
            self._members.popitem(last=False)

    def discard(self, member: T) -> None:
        """Forget `member`, if it is there."""
        self._members.pop(member, None)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __len__(self) -> int:
        return len(self._members)
