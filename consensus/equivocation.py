"""The contents of each ticket: a winner owes one, two are evidence against it, and more are not worth keeping.

Signing another header for a ticket is free, so what a node keeps of them must not grow with their number. It remembers
the first two headers of every trunk, no more; a third is let in only when work builds on it, which somebody pays for.
It validates nothing and punishes nobody.
"""

from collections.abc import Iterator

from chain.header import Header
from chain.primitives import Hash
from consensus.header_chain import ChainEntry

CONTENTS_MAX = 2
"""Headers of one ticket that are kept and relayed: as many as it takes to show that there are two."""


class Contents:
    """The first headers seen of every trunk."""

    def __init__(self) -> None:
        """Start with none."""
        self._by_trunk: dict[Hash, tuple[ChainEntry, ...]] = {}

    def add(self, entry: ChainEntry) -> None:
        """Remember a validated header, unless two of its trunk are remembered."""
        seen = self._by_trunk.get(entry.header.foliage.trunk_hash, ())
        if len(seen) < CONTENTS_MAX and entry not in seen:
            self._by_trunk[entry.header.foliage.trunk_hash] = (*seen, entry)

    def is_full(self, header: Header) -> bool:
        """Say whether two headers of this one's trunk are remembered."""
        return len(self._by_trunk.get(header.foliage.trunk_hash, ())) >= CONTENTS_MAX

    def get_first(self, entry: ChainEntry) -> ChainEntry | None:
        """Return the header seen before `entry` for the same ticket, if `entry` is the second; else None."""
        seen = self._by_trunk.get(entry.header.foliage.trunk_hash, ())
        return seen[0] if len(seen) == CONTENTS_MAX and seen[1] is entry else None

    def iter_evidence(self) -> Iterator[tuple[Header, Header]]:
        """Yield every pair of headers of one ticket, in the order in which the tickets were first seen."""
        for trunk_hash in self._by_trunk:
            seen = self._by_trunk[trunk_hash]
            if len(seen) == CONTENTS_MAX:
                yield seen[0].header, seen[1].header
