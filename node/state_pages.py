"""Records of one kind, found page by page on a walk along the state's paths.

Keys stand in the tree by their hashes, so that one kind is scattered among all others. A page looks at a bounded
number of leaves, whatever they hold, and says from where the next one goes on; it may be empty before the walk is over.
A record that stands during the whole walk is found once, whatever blocks come meanwhile. It knows no JSON.
"""

from itertools import islice
from typing import TypeVar

from chain.codec import decode
from chain.primitives import Hash
from chain.state.snapshot import LAST_PATH, compute_next_path
from chain.state.tree import compute_path
from chain.state.view import VALUE_BYTES_MAX, StateKind, StateView
from consensus.header_chain import ChainEntry
from node.rpc.api import StatePage

LEAVES_SEEN_MAX = 512
"""Leaves that one page looks at. 1,024 took 31 ms from a disk with 200,000 accounts, on a busy machine: half of that
may keep the loop of a node."""

T = TypeVar("T")


def read_page(view: StateView, entry: ChainEntry, kind: StateKind[T], first: Hash, count: int) -> StatePage[T]:
    """Return up to `count` records of a kind from the path `first` on, in the state after `entry`."""
    found: list[tuple[bytes, T]] = []
    for seen, leaf in enumerate(islice(view.iter_leaves(first), LEAVES_SEEN_MAX), start=1):
        if leaf.key.startswith(kind.prefix):
            found.append((leaf.key[len(kind.prefix) :], decode(kind.record, leaf.value, VALUE_BYTES_MAX)))
        if len(found) == count or seen == LEAVES_SEEN_MAX:
            return _make_page(view, entry, found, compute_path(leaf.key))
    return _make_page(view, entry, found, LAST_PATH)


def _make_page(view: StateView, entry: ChainEntry, found: list[tuple[bytes, T]], last: Hash) -> StatePage[T]:
    following = None if last == LAST_PATH else compute_next_path(last)
    return StatePage(entry.hash, entry.height, view.root, tuple(found), following)
