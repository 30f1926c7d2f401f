"""Which chain to follow: the heaviest; of equal ones the first seen; never one with an invalid block.

It answers with the way from one tip to another and remembers which blocks were found invalid. It neither validates a
block nor moves a head. Source: Nakamoto's rule over expected work; first-seen ties, because drawing ties by lot lowers
the share at which selfish mining pays to 23 % (Eyal and Sirer 2014; Heilman 2014).
"""

from collections.abc import Callable
from dataclasses import dataclass

from chain.primitives import Hash
from consensus.header_chain import ChainEntry, HeaderChain, find_fork


@dataclass(frozen=True, slots=True)
class Path:
    """The way from a head to a heavier candidate: what to leave, tip first, and what to join, oldest first."""

    disconnect: tuple[ChainEntry, ...]
    connect: tuple[ChainEntry, ...]


class InvalidMarks:
    """Blocks found invalid, each of which poisons all that is built on it."""

    def __init__(self) -> None:
        """Start with none."""
        self._marked: set[Hash] = set()

    def mark(self, chain: HeaderChain, entry: ChainEntry) -> tuple[ChainEntry, ...]:
        """Mark an entry and every known descendant; return those newly marked, first seen first."""
        assert entry.parent is not None, "genesis is what validity starts from"
        poisoned = []
        for other in chain.get_entries():
            if other is entry or self.is_poisoned(other.header.foliage.parent_hash):
                if other.hash not in self._marked:
                    poisoned.append(other)
                self._marked.add(other.hash)
        return tuple(poisoned)

    def is_poisoned(self, header_hash: Hash) -> bool:
        """Say whether this block is known to be invalid; ask it of a new header's parent before validating it."""
        return header_hash in self._marked


def is_heavier(candidate: ChainEntry, head: ChainEntry) -> bool:
    """Say whether `candidate` beats a `head` that was seen first."""
    return candidate.total_work > head.total_work


def choose_path(head: ChainEntry, candidate: ChainEntry) -> Path | None:
    """Return the way to `candidate` when it is heavier than `head`, else None."""
    return find_path(head, candidate) if is_heavier(candidate, head) else None


def find_path(head: ChainEntry, target: ChainEntry) -> Path:
    """Return the way from `head` to `target`, whichever is heavier."""
    fork = find_fork(head, target)
    return Path(_walk_down(head, fork), tuple(reversed(_walk_down(target, fork))))


def find_heaviest(
    chain: HeaderChain, marks: InvalidMarks, is_usable: Callable[[Hash], bool] = lambda _hash: True
) -> ChainEntry:
    """Return the heaviest entry that is not poisoned and usable together with all its ancestors.

    `is_usable` says for example whether the block's body is at hand; genesis always counts as usable.
    """
    best, reachable = chain.genesis, {chain.genesis.hash}
    for entry in chain.get_entries():
        if entry.header.foliage.parent_hash not in reachable or marks.is_poisoned(entry.hash):
            continue
        if is_usable(entry.hash):
            reachable.add(entry.hash)
            best = entry if is_heavier(entry, best) else best
    return best


def _walk_down(entry: ChainEntry, fork: ChainEntry) -> tuple[ChainEntry, ...]:
    steps = []
    while entry is not fork:
        steps.append(entry)
        assert entry.parent is not None
        entry = entry.parent
    return tuple(steps)
