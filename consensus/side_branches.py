"""Which headers beside the chains that count are let go first, when there are more of them than one cares to hold.

The end of the lightest branch goes first. So whoever wants others' side branches out must bring heavier ones, which is
work of that height; what was forked off far back, where targets are easy, goes before it. Ends go before what they are
built on, so no header is left without its parent. It removes nothing itself.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush

from chain.primitives import Hash
from consensus.header_chain import ChainEntry, HeaderChain, find_fork, is_ancestor


def list_beside(chain: HeaderChain, kept: Sequence[ChainEntry]) -> tuple[ChainEntry, ...]:
    """Return every entry that is neither one of `kept` nor an ancestor of one; costs nothing for the others."""
    beside, names = list[ChainEntry](), set[Hash]()
    for tip in chain.get_tips():
        entry: ChainEntry | None = tip
        while entry is not None and entry.hash not in names and not any(is_ancestor(entry, each) for each in kept):
            beside.append(entry)
            names.add(entry.hash)
            entry = entry.parent
    return tuple(beside)


def count_on(ways: Sequence[ChainEntry]) -> int:
    """Return how many entries there are on the ways from genesis to these, each counted once."""
    forks = [max((find_fork(way, other).height for other in ways[:at]), default=-1) for at, way in enumerate(ways)]
    return sum(way.height - fork for way, fork in zip(ways, forks, strict=True))


def choose_lightest(
    chain: HeaderChain, kept: Sequence[ChainEntry], size_max: int, measure: Callable[[ChainEntry], int]
) -> tuple[ChainEntry, ...]:
    """Return entries beside `kept`, in an order in which each is a tip, without which at most `size_max` remains.

    `measure` says how much an entry counts, in whatever unit. Of equal work the one with the greater hash goes first.
    """
    beside = list_beside(chain, kept)
    children = Counter(entry.header.foliage.parent_hash for entry in beside)
    by_hash = {entry.hash: entry for entry in beside}
    ends = [_rank(entry) for entry in beside if not children[entry.hash]]
    heapify(ends)
    excess, chosen = sum(map(measure, beside)) - size_max, list[ChainEntry]()
    while excess > 0:
        entry = by_hash[heappop(ends)[2]]
        chosen.append(entry)
        excess -= measure(entry)
        parent = by_hash.get(entry.header.foliage.parent_hash)
        if parent is not None:
            children[parent.hash] -= 1
            if not children[parent.hash]:
                heappush(ends, _rank(parent))
    return tuple(chosen)


def _rank(entry: ChainEntry) -> tuple[int, int, Hash]:
    return entry.total_work, -int.from_bytes(entry.hash, "big"), entry.hash
