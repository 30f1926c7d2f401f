"""The contents of each ticket: a winner owes one, two are evidence against it, and more are not worth keeping.

Signing another header for a ticket is free, so what a node keeps of them must not grow with their number. It remembers
the first two headers of every ticket, no more; a third is let in only when work builds on it, which somebody pays for.
It validates nothing and punishes nobody.
"""

from collections.abc import Iterator

from chain.header import Header
from chain.primitives import Hash, PublicKey
from consensus.header_chain import ChainEntry

CONTENTS_MAX = 2
"""Headers of one ticket that are kept and relayed: as many as it takes to show that there are two."""


Winner = tuple[PublicKey, Hash]
"""A miner and a trunk. A trunk names no miner, so one who has won nothing could fill the places of one who has."""


class Contents:
    """The first headers seen of every ticket."""

    def __init__(self) -> None:
        """Start with none."""
        self._by_winner: dict[Winner, tuple[ChainEntry, ...]] = {}

    def add(self, entry: ChainEntry) -> None:
        """Remember a validated header, unless two of its ticket are remembered."""
        seen = self._get(entry.header)
        if len(seen) < CONTENTS_MAX and entry not in seen:
            self._by_winner[_get_winner(entry.header)] = (*seen, entry)

    def remove(self, entry: ChainEntry) -> None:
        """Forget a header, and leave room for another of its ticket."""
        rest = tuple(seen for seen in self._get(entry.header) if seen is not entry)
        if rest:
            self._by_winner[_get_winner(entry.header)] = rest
        else:
            self._by_winner.pop(_get_winner(entry.header), None)

    def get_other(self, header: Header) -> Header | None:
        """Return the one other header that is remembered of this one's ticket; None too when two are."""
        seen = self._get(header)
        return seen[0].header if len(seen) == 1 and seen[0].header.foliage != header.foliage else None

    def is_full(self, header: Header) -> bool:
        """Say whether two headers of this one's ticket are remembered."""
        return len(self._get(header)) >= CONTENTS_MAX

    def get_first(self, entry: ChainEntry) -> ChainEntry | None:
        """Return the header seen before `entry` for the same ticket, if `entry` is the second; else None."""
        seen = self._get(entry.header)
        return seen[0] if len(seen) == CONTENTS_MAX and seen[1] is entry else None

    def iter_evidence(self) -> Iterator[tuple[Header, Header]]:
        """Yield every pair of headers of one ticket, in the order in which the tickets were first seen."""
        for winner in self._by_winner:
            seen = self._by_winner[winner]
            if len(seen) == CONTENTS_MAX:
                yield seen[0].header, seen[1].header

    def _get(self, header: Header) -> tuple[ChainEntry, ...]:
        return self._by_winner.get(_get_winner(header), ())


def _get_winner(header: Header) -> Winner:
    return header.foliage.miner, header.foliage.trunk_hash
