"""Headers of a branch that is too light to be kept: counted in a first pass, fetched again once its work is enough.

Targets follow the clock, so headers on old blocks cost next to nothing, and their number says nothing. Of a branch that
is lighter than what is held only its end is remembered, and a header's name every so often. When its end has shown
enough work, it comes a second time and is kept, as long as it goes through those names. What is remembered does not
grow with the branch: when the names are too many, every second one goes. It knows neither peer nor tree.
Source: Bitcoin Core's headers presync (2022), which remembers salted bits instead of names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chain.header import Header
from chain.primitives import Hash
from consensus.header_chain import ChainEntry, make_entry, make_first_entry

MARK_EVERY = 2_000
"""Headers between two names that are remembered at first."""

MARKS_MAX = 1_024
"""Names that are remembered: of two million headers each two-thousandth, of more fewer."""


@dataclass(slots=True)
class Presync:
    """One branch between its two passes: where it begins, its end so far, and names on the way."""

    position: Hash
    """The kept header from which the second pass goes on."""
    tail: ChainEntry
    """The end of what the first pass has seen, its ancestors cut off."""
    marks: list[tuple[int, Hash]]
    """Heights and names of headers on the way, in ascending order; never empty."""
    mark_every: int
    """Headers between two of them."""
    is_proven: bool = False
    """Whether the first pass is over."""

    def extend(self, end: ChainEntry, lead_in: int, *, is_enough: bool) -> None:
        """Take `end`, which was validated on the tail, as the new end; `lead_in` of its ancestors stay at hand."""
        self.tail, self.is_proven = cut_off(end, lead_in), is_enough
        if is_enough or end.height - self.marks[-1][0] >= self.mark_every:
            self.marks.append((end.height, end.hash))
        if len(self.marks) > MARKS_MAX:
            # The last one stays: behind it stands the work that makes the branch worth its room.
            self.marks = self.marks[len(self.marks) % 2 ^ 1 :: 2]
            self.mark_every *= 2

    def take(self, headers: Sequence[Header], names: Sequence[Hash]) -> bool:
        """Say whether headers of the second pass go on from its position through the names on their way; go on then."""
        first = headers[0].height
        if headers[0].foliage.parent_hash != self.position:
            return False
        passed = [(height, name) for height, name in self.marks if first <= height < first + len(headers)]
        if any(names[height - first] != name for height, name in passed):
            return False
        self.position = names[-1]
        return True


def begin(parent: ChainEntry, end: ChainEntry, lead_in: int) -> Presync:
    """Return the first pass over a branch that goes on from `parent` and whose first headers end with `end`."""
    presync = Presync(parent.hash, parent, [(parent.height, parent.hash)], MARK_EVERY)
    presync.extend(end, lead_in, is_enough=False)
    return presync


def cut_off(entry: ChainEntry, lead_in: int) -> ChainEntry:
    """Return an equal entry that has `lead_in` ancestors, or all where there are fewer, and holds on to no other."""
    headers, first = list[Header](), entry
    while len(headers) < lead_in and first.parent is not None:
        headers.append(first.header)
        first = first.parent
    if first.parent is not None:
        first = make_first_entry(first.header, first.parent.history)
    for header in reversed(headers):
        first = make_entry(header, first)
    return first
