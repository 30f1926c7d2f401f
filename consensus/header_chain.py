"""Validated headers as a tree in memory: who is whose parent, and how to get from one to another.

Each entry carries what its child needs (the history up to itself) and a skip link, so that an ancestor is found in
logarithmic time and headers of side branches cost nothing extra. It holds no block and decides no fork; entries come in
through `header_rules.validate_header` or from a store that did so before. Source: Bitcoin Core's `CBlockIndex`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from chain.block import compute_transactions_root
from chain.genesis import Genesis, compute_chain_id
from chain.hashing import tagged_hash
from chain.header import HEADER_VERSION, Foliage, Header, Trunk, compute_header_hash, compute_trunk_hash
from chain.primitives import ZERO_HASH, Hash, PublicKey, Signature
from chain.ticket import EMPTY_TICKET
from consensus.history import History


@dataclass(frozen=True, slots=True, eq=False)
class ChainEntry:
    """A header in its place. Two entries are the same only if they are one object; their hashes compare otherwise."""

    hash: Hash
    header: Header
    history: History = field(repr=False)
    """Over headers 0..height: what a child commits to."""
    parent: "ChainEntry | None" = field(repr=False)
    skip: "ChainEntry | None" = field(repr=False)
    height: int
    """Blocks since genesis."""
    first_height: int
    """The oldest ancestor at hand: 0, or where a light client's knowledge starts."""

    @property
    def total_work(self) -> int:
        """Expected MACs from genesis to here."""
        return self.header.trunk.total_work

    @property
    def beacon(self) -> Hash:
        """The randomness that this block ends with."""
        return self.header.trunk.beacon

    def get_ancestor(self, height: int) -> "ChainEntry":
        """Return the ancestor (or this entry) at `height`, which must lie in [self.first_height, self.height]."""
        assert self.first_height <= height <= self.height
        entry = self
        while entry.height > height:
            skip = entry.skip
            following = skip if skip is not None and skip.height >= height else entry.parent
            assert following is not None
            entry = following
        return entry

    def get_ancestor_by_work(self, unit: int) -> "ChainEntry":
        """Return the oldest ancestor (or this entry) whose total work exceeds `unit`, which must be below its own.

        Of all units of work from genesis to here, that block holds number `unit`.
        """
        assert unit < self.total_work
        entry = self
        while entry.parent is not None and entry.parent.total_work > unit:
            skip = entry.skip
            entry = skip if skip is not None and skip.total_work > unit else entry.parent
        return entry


def make_genesis_header(genesis: Genesis, state_root: Hash) -> Header:
    """Return header 0, which nobody mined or signed."""
    chain_id = compute_chain_id(genesis)
    trunk = Trunk(ticket=EMPTY_TICKET, beacon=tagged_hash("beacon.genesis", chain_id), total_work=0)
    foliage = Foliage(
        version=HEADER_VERSION,
        height=0,
        parent_hash=chain_id,
        timestamp_ms=genesis.timestamp_ms,
        target=genesis.target,
        miner=PublicKey(ZERO_HASH),
        state_root=state_root,
        transactions_root=compute_transactions_root(()),
        trunk_hash=compute_trunk_hash(trunk),
        history_root=History().compute_root(),
    )
    return Header(trunk, foliage, Signature(bytes(64)))


def make_entry(header: Header, parent: ChainEntry) -> ChainEntry:
    """Return the entry of a header whose rules hold."""
    header_hash, height = compute_header_hash(header), parent.height + 1
    skip = parent.get_ancestor(max(parent.first_height, _skip_height(height)))
    history = parent.history.append(header_hash, header)
    return ChainEntry(header_hash, header, history, parent, skip, height, parent.first_height)


def make_first_entry(header: Header, history: History) -> ChainEntry:
    """Return the entry of a header without its parent: genesis over no history, or where a light client starts."""
    header_hash, height = compute_header_hash(header), header.height
    return ChainEntry(header_hash, header, history.append(header_hash, header), None, None, height, height)


def get_median_timestamp(entry: ChainEntry, span: int) -> int:
    """Return the median timestamp (ms) of the last `span` headers up to `entry`, the later one of two middles."""
    timestamps = [entry.header.foliage.timestamp_ms]
    while entry.parent is not None and len(timestamps) < span:
        entry = entry.parent
        timestamps.append(entry.header.foliage.timestamp_ms)
    timestamps.sort()
    return timestamps[len(timestamps) // 2]


def get_locator(entry: ChainEntry) -> tuple[Hash, ...]:
    """Return hashes from `entry` back to genesis, dense at first and then ever sparser."""
    heights, step = [entry.height], 1
    while heights[-1] > 0:
        heights.append(max(0, heights[-1] - step))
        step = step * 2 if len(heights) > 10 else 1
    return tuple(entry.get_ancestor(height).hash for height in heights)


def find_fork(left: ChainEntry, right: ChainEntry) -> ChainEntry:
    """Return the last entry that both have as ancestor (or are)."""
    height = min(left.height, right.height)
    left, right = left.get_ancestor(height), right.get_ancestor(height)
    while left is not right:
        if left.skip is not None and right.skip is not None and left.skip is not right.skip:
            left, right = left.skip, right.skip
        else:
            assert left.parent is not None
            assert right.parent is not None
            left, right = left.parent, right.parent
    return left


def is_ancestor(ancestor: ChainEntry, entry: ChainEntry) -> bool:
    """Say whether `ancestor` lies on the way from genesis to `entry` (an entry is its own ancestor)."""
    return ancestor.height <= entry.height and entry.get_ancestor(ancestor.height) is ancestor


class HeaderChain:
    """All validated headers by hash, in the order in which they were first seen."""

    def __init__(self, genesis_header: Header) -> None:
        """Start from header 0."""
        self.genesis = make_first_entry(genesis_header, History())
        self._entries: dict[Hash, ChainEntry] = {self.genesis.hash: self.genesis}
        self._tips = dict(self._entries)
        # How many children an entry has beyond its first; most have one, so most stand in neither dictionary.
        self._more_children: dict[Hash, int] = {}

    def __contains__(self, header_hash: Hash) -> bool:
        return header_hash in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, header_hash: Hash) -> ChainEntry | None:
        """Return the entry of that hash, if it is known."""
        return self._entries.get(header_hash)

    def insert(self, header: Header) -> ChainEntry:
        """Return the entry of a header whose rules the caller has checked; its parent must be known."""
        parent = self._entries[header.foliage.parent_hash]
        entry = make_entry(header, parent)
        known = self._entries.setdefault(entry.hash, entry)
        if known is entry:
            self._tips[entry.hash] = entry
            if self._tips.pop(parent.hash, None) is None:
                self._more_children[parent.hash] = self._more_children.get(parent.hash, 0) + 1
        return known

    def remove(self, entry: ChainEntry) -> None:
        """Forget an entry on which nothing is built; genesis stays."""
        parent = entry.parent
        assert parent is not None
        del self._tips[entry.hash], self._entries[entry.hash]
        siblings = self._more_children.pop(parent.hash, 0)
        if siblings == 0:
            self._tips[parent.hash] = parent
        elif siblings > 1:
            self._more_children[parent.hash] = siblings - 1

    def get_tips(self) -> tuple[ChainEntry, ...]:
        """Return the entries on which nothing is built."""
        return tuple(self._tips.values())

    def get_entries(self) -> tuple[ChainEntry, ...]:
        """Return every entry, first seen first; a parent stands before its children."""
        return tuple(self._entries.values())

    def get_headers_after(self, locator: Sequence[Hash], tip: ChainEntry, count_max: int) -> tuple[Header, ...]:
        """Return up to `count_max` headers of `tip`'s chain behind the first locator hash on it, else from height 1."""
        known = (self._entries.get(header_hash) for header_hash in locator)
        fork = next((entry for entry in known if entry and is_ancestor(entry, tip)), self.genesis)
        headers = []
        entry = tip.get_ancestor(min(tip.height, fork.height + count_max))
        while entry is not fork:
            headers.append(entry.header)
            assert entry.parent is not None
            entry = entry.parent
        return tuple(reversed(headers))


def _skip_height(height: int) -> int:
    """Return where an entry's skip link lands: lowest bits cleared so that log(height) jumps reach any ancestor."""
    if height < 2:
        return 0
    if height & 1:
        return _clear_lowest(_clear_lowest(height - 1)) + 1
    return _clear_lowest(height)


def _clear_lowest(value: int) -> int:
    return value & (value - 1)
