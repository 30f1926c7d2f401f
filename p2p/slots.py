"""What a connection is for, and which inbound one leaves when all places are taken.

Whoever can open many connections must not be able to push out all others: some guests are protected for what is hard
to fake (closeness, usefulness, time), some by a secret order of prefixes, and the one that leaves comes from the prefix
that has the most. It closes nothing itself. Source: Bitcoin Core's inbound eviction.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from chain.hashing import tagged_hash
from p2p.actions import Peer
from p2p.addresses import Prefix

PROTECTED_EACH = 4
"""Guests that each kind of merit protects."""


class SlotKind(Enum):
    """What a connection is for."""

    FULL = "full"
    """Opened to an address of the book; everything is relayed."""
    BLOCK_ONLY = "block-only"
    """Opened to an address of the book; neither transactions nor addresses are relayed."""
    FEELER = "feeler"
    """Opened to learn whether a node is there, and closed."""
    STATIC = "static"
    """Opened to a peer that whoever runs the node has named."""
    SEED = "seed"
    """Opened to ask for addresses, and closed."""
    INBOUND = "inbound"
    """Opened by the peer."""


@dataclass(frozen=True, slots=True)
class Guest:
    """An inbound peer with what speaks for it; times in milliseconds, 0 for never, `latency_ms` None when unknown."""

    peer: Peer
    prefix: Prefix
    since_ms: int
    latency_ms: int | None
    block_ms: int
    transaction_ms: int


def choose_leaver(guests: Iterable[Guest], salt: bytes) -> Peer | None:
    """Return the inbound peer that makes room, None when each is protected."""
    left = list(guests)
    for rank in _make_ranks(salt):
        left = sorted(left, key=rank)[PROTECTED_EACH:]
    left = sorted(left, key=lambda guest: (guest.since_ms, guest.peer))[(len(left) + 1) // 2 :]
    if not left:
        return None
    counts = Counter(guest.prefix for guest in left)
    crowd = max(counts, key=lambda prefix: (counts[prefix], prefix))
    return max((g for g in left if g.prefix == crowd), key=lambda guest: (guest.since_ms, guest.peer)).peer


def _make_ranks(salt: bytes) -> tuple[Callable[[Guest], tuple[int | bytes, bytes]], ...]:
    """Return sort keys that put the protected first."""
    return (
        lambda guest: (tagged_hash("address", salt, b"guest", guest.prefix), guest.peer),
        lambda guest: (guest.latency_ms if guest.latency_ms is not None else 2**62, guest.peer),
        lambda guest: (-guest.transaction_ms, guest.peer),
        lambda guest: (-guest.block_ms, guest.peer),
    )
