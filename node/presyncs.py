"""The first passes under way: of each peer the one branch that it shows, remembered by its end and some names.

Which headers are valid and which work is enough its caller knows; what is remembered of a branch, `consensus.presync`.
"""

from collections import OrderedDict
from collections.abc import Sequence

from chain.header import Header, compute_header_hash
from chain.primitives import Hash, PublicKey
from consensus.header_chain import ChainEntry
from consensus.presync import Presync, begin

PRESYNCS_MAX = 80
"""Branches remembered, the longest untouched let go first: more than a node has peers."""


class Presyncs:
    """Branches between their two passes, by who shows them."""

    def __init__(self, lead_in: int) -> None:
        """Keep `lead_in` headers before the end of each, as the next one's rules need them."""
        self._lead_in = lead_in
        self._by_source: OrderedDict[PublicKey, Presync] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_source)

    def get_tail(self, source: PublicKey, parent_hash: Hash) -> ChainEntry | None:
        """Return the end of the first pass of `source` when it goes on from there."""
        presync = self._by_source.get(source)
        if presync is None or presync.is_proven or presync.tail.hash != parent_hash:
            return None
        return presync.tail

    def note(self, source: PublicKey, parent: ChainEntry, end: ChainEntry, *, is_enough: bool) -> None:
        """Go on with the first pass when `parent` is its tail, else begin one; `end` was validated on `parent`."""
        presync = self._by_source.pop(source, None)
        if presync is not None and presync.tail is parent:
            presync.extend(end, self._lead_in, is_enough=is_enough)
        else:
            presync = begin(parent, end, self._lead_in)
        self._by_source[source] = presync
        while len(self._by_source) > PRESYNCS_MAX:
            self._by_source.popitem(last=False)

    def is_second_pass(self, source: PublicKey, headers: Sequence[Header]) -> bool:
        """Say whether headers are the next ones of a branch whose work was enough; what differs from it ends it.

        What goes on behind the work that was shown is no part of it, but moves its position.
        """
        presync = self._by_source.get(source)
        if presync is None or not presync.is_proven:
            return False
        is_next = presync.take(headers, [compute_header_hash(header) for header in headers])
        if not is_next:
            del self._by_source[source]
        return is_next and headers[0].height <= presync.tail.height

    def end(self, source: PublicKey) -> None:
        """Forget what `source` shows: it is the heaviest now, and needs nobody to remember it."""
        self._by_source.pop(source, None)

    def get_position(self) -> Hash | None:
        """Return how far the second pass with the most work behind it has come, and what is behind that."""
        proven = [presync for presync in self._by_source.values() if presync.is_proven]
        return max(proven, key=lambda presync: presync.tail.total_work).position if proven else None
