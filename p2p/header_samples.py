"""Runs of headers show some of their work before they are taken: openings of tickets at places drawn by work.

A header costs its maker a signature, whatever bond it has; the work it claims shows in the strips behind its ticket
alone. Places are drawn from a secret of the receiver's once the run is in hand, so its sender cannot have done that
work alone, and among headers that are new to the receiver: known ones would hide invented ones behind them. Whether an
opening holds is the chain's to say. Source: FlyClient (Bünz et al. 2019), for one message at a time.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chain.hashing import tagged_hash
from chain.header import Header, compute_header_hash
from chain.primitives import Hash
from p2p.actions import DeliverHeaders, Peer
from p2p.content import read_header
from p2p.messages import GetData, Item, ItemKind

SAMPLES = 4
"""Places drawn a run, beside its end: one half invented passes once in sixteen times; then its blocks are missing."""


@dataclass(slots=True)
class SampledRun:
    """Headers that wait for the openings of some of them."""

    peer: Peer
    headers: tuple[bytes, ...]
    wanted: dict[Hash, int]
    """Positions of the headers to be opened, by hash."""
    deadline_ms: int
    openings: dict[int, bytes] = field(default_factory=dict)

    def make_question(self) -> GetData:
        """Return what to ask the sender."""
        return GetData(tuple(Item(ItemKind.OPENING, block_hash) for block_hash in self.wanted))

    def take(self, block_hash: Hash, opening: bytes) -> bool:
        """Take an opening; say whether it was one of those asked for."""
        position = self.wanted.get(block_hash)
        if position is None or position in self.openings:
            return False
        self.openings[position] = opening
        return True

    def make_delivery(self) -> DeliverHeaders | None:
        """Return the run with all its openings, when they are here."""
        if len(self.openings) < len(self.wanted):
            return None
        return DeliverHeaders(self.peer, self.headers, tuple(sorted(self.openings.items())))


def make_sampled_run(
    peer: Peer, headers: tuple[bytes, ...], secret: Hash, deadline_ms: int, has_header: Callable[[Hash], bool]
) -> SampledRun | None:
    """Return a run to be sampled, None when all of it is known; raises RemoteProtocolError when one is malformed."""
    records = [read_header(data) for data in headers]
    start = next((at for at, header in enumerate(records) if not has_header(compute_header_hash(header))), None)
    if start is None:
        return None
    positions = (start + position for position in draw_positions(records[start:], secret))
    wanted = {compute_header_hash(records[position]): position for position in positions}
    return SampledRun(peer, headers, wanted, deadline_ms)


def draw_positions(headers: Sequence[Header], secret: Hash) -> tuple[int, ...]:
    """Return positions drawn by the work that headers claim, and the last: what is invented has work done on it.

    A run of few headers is opened whole. Where sums do not rise, the chain refuses them.
    """
    if len(headers) <= SAMPLES:
        return tuple(range(len(headers)))
    ends = [header.trunk.total_work for header in headers]
    first, last = ends[0] - 1, ends[-1]
    run = compute_header_hash(headers[-1])
    positions = {len(headers) - 1}
    for number in range(SAMPLES):
        draw = int.from_bytes(tagged_hash("p2p.header-sample", secret, run, bytes([number])), "little")
        unit = first + 1 + draw % max(1, last - first)
        positions.add(min(bisect_left(ends, unit), len(ends) - 1))
    return tuple(sorted(positions))
