"""Changes of the state tree: from one root and a batch of changes to another root, and from one root to any other.

Both say which nodes come and which go. A node stands in a tree at one place only, which its leaves decide, so the two
sets are exact: the new tree's nodes are the old one's without those that went and with those that came. It knows no
disk; what is done with nodes that went is decided where they are kept.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from chain.primitives import Hash
from chain.state.tree import (
    EMPTY_ROOT,
    INNER,
    KEY_BYTES_MAX,
    LEAF,
    PATH_BITS,
    Leaf,
    MemoryNodes,
    NodeChanges,
    NodeSource,
    compute_leaf_hash,
    compute_path,
    decode_leaf,
    encode_leaf,
    find_cut,
    load_node_bytes,
)

_INNER_PREFIX = bytes([INNER])

_Change = tuple[int, Hash]
"""A path as an integer and the hash of the leaf to stand there; EMPTY_ROOT to have none."""


@dataclass(frozen=True, slots=True)
class TreeUpdate:
    """Another root, and what its tree has more and less than the tree before."""

    root: Hash
    nodes: NodeChanges


def update_tree(nodes: NodeSource, root: Hash, changes: Mapping[bytes, bytes | None]) -> TreeUpdate:
    """Return the tree after setting each key of `changes` to its value, or removing it where that is None.

    Costs one new node a level and touched key. Raises StorageError.
    """
    writer = _Writer(nodes)
    writer.changes = sorted([writer.take_change(key, value) for key, value in changes.items()])
    return writer.finish(writer.update(root, 0, 0, len(changes)) if changes else root)


def build_subtree(depth: int, leaves: Sequence[Leaf]) -> TreeUpdate:
    """Return the subtree below `depth` inner nodes that holds `leaves`, in the order of paths, and nothing else."""
    writer = _Writer(MemoryNodes())
    changes = [writer.take_change(leaf.key, leaf.value) for leaf in leaves]
    return writer.finish(writer.build(depth, changes, 0, len(changes)))


def compute_difference(nodes: NodeSource, old_root: Hash, new_root: Hash) -> TreeUpdate:
    """Return what leads from one tree to the other, both of which `nodes` holds; raises StorageError.

    Costs as many reads as nodes differ.
    """
    gone, come = dict[Hash, bytes](), dict[Hash, bytes]()
    pending = [(old_root, new_root)]
    while pending:
        old, new = pending.pop()
        if old != new:
            pending += zip(_visit(nodes, old, gone), _visit(nodes, new, come), strict=True)
    return _make_update(new_root, come, list(gone))


def _visit(nodes: NodeSource, node_hash: Hash, seen: dict[Hash, bytes]) -> tuple[Hash, Hash]:
    """Note a node as seen and return its children, none of a leaf or of nothing."""
    if node_hash == EMPTY_ROOT:
        return EMPTY_ROOT, EMPTY_ROOT
    data = seen[node_hash] = load_node_bytes(nodes, node_hash)
    return (EMPTY_ROOT, EMPTY_ROOT) if data[0] == LEAF else (Hash(data[1:33]), Hash(data[33:]))


def _make_update(root: Hash, come: dict[Hash, bytes], gone: Sequence[Hash]) -> TreeUpdate:
    # What is in both has not changed, or is a leaf that only moved up or down.
    left = frozenset(gone)
    nodes: NodeChanges = {node_hash: None for node_hash in gone if node_hash not in come}
    nodes |= {node_hash: data for node_hash, data in come.items() if node_hash not in left}
    return TreeUpdate(root, nodes)


class _Writer:
    """One batch of changes on its way down the tree.

    Bytes, integers and places in one list all the way: this is every block's hot path.
    """

    def __init__(self, nodes: NodeSource) -> None:
        self._nodes = nodes
        self._come: dict[Hash, bytes] = {}
        self._gone: list[Hash] = []
        self.changes: list[_Change] = []

    def take_change(self, key: bytes, value: bytes | None) -> _Change:
        assert len(key) <= KEY_BYTES_MAX
        path = compute_path(key)
        if value is None:
            return int.from_bytes(path, "big"), EMPTY_ROOT
        leaf = compute_leaf_hash(path, sha256(value).digest())
        self._come[leaf] = encode_leaf(key, value)
        return int.from_bytes(path, "big"), leaf

    def finish(self, root: Hash) -> TreeUpdate:
        return _make_update(root, self._come, self._gone)

    def update(self, node_hash: Hash, depth: int, low: int, high: int) -> Hash:
        """Return the subtree at `depth` after the changes at the places from `low` up to `high`, one at least."""
        if high - low == 1:
            return self._update_one(node_hash, depth, low)
        if node_hash == EMPTY_ROOT:
            return self.build(depth, self.changes, low, high)
        data = load_node_bytes(self._nodes, node_hash)
        self._gone.append(node_hash)
        if data[0] == LEAF:
            return self._build_with_leaf(node_hash, data, depth, self.changes[low:high])
        cut = find_cut(self.changes, depth, low, high)
        left, right = Hash(data[1:33]), Hash(data[33:])
        if low < cut:
            left = self.update(left, depth + 1, low, cut)
        if cut < high:
            right = self.update(right, depth + 1, cut, high)
        return self._join(left, right)

    def build(self, depth: int, changes: Sequence[_Change], low: int, high: int) -> Hash:
        """Return the subtree at `depth` of the leaves at these places of `changes` alone."""
        if high - low < 2:
            return changes[low][1] if low < high else EMPTY_ROOT
        cut = find_cut(changes, depth, low, high)
        return self._join(self.build(depth + 1, changes, low, cut), self.build(depth + 1, changes, cut, high))

    def _update_one(self, node_hash: Hash, depth: int, place: int) -> Hash:
        """Do what `update` does for a single change: most of the way down a large tree a change is alone."""
        path, leaf = self.changes[place]
        get, siblings = self._nodes.get_state_node, list[Hash]()
        while node_hash != EMPTY_ROOT:
            data = get(node_hash) or load_node_bytes(self._nodes, node_hash)
            self._gone.append(node_hash)
            if data[0] == LEAF:
                leaf = self._build_with_leaf(node_hash, data, depth + len(siblings), [(path, leaf)])
                break
            left, right = Hash(data[1:33]), Hash(data[33:])
            is_right = path >> (PATH_BITS - 1 - depth - len(siblings)) & 1
            siblings.append(left if is_right else right)
            node_hash = right if is_right else left
        path >>= PATH_BITS - depth - len(siblings)
        for sibling in reversed(siblings):
            leaf = self._join(sibling, leaf) if path & 1 else self._join(leaf, sibling)
            path >>= 1
        return leaf

    def _build_with_leaf(self, leaf_hash: Hash, data: bytes, depth: int, changes: Sequence[_Change]) -> Hash:
        """Return the subtree at `depth` that `changes` make of a leaf."""
        key_end = 3 + int.from_bytes(data[1:3], "little")
        if len(changes) == 1 and self._come.get(changes[0][1], b"")[:key_end] == data[:key_end]:
            return changes[0][1]
        path = int.from_bytes(compute_path(decode_leaf(data).key), "big")
        place = bisect_left(changes, (path,))
        if place == len(changes) or changes[place][0] != path:
            self._come[leaf_hash] = data
            changes = [*changes[:place], (path, leaf_hash), *changes[place:]]
        return self.build(depth, changes, 0, len(changes))

    def _join(self, left: Hash, right: Hash) -> Hash:
        if EMPTY_ROOT in (left, right):
            lone = right if left == EMPTY_ROOT else left
            if lone == EMPTY_ROOT or self._is_leaf(lone):
                return lone
        data = _INNER_PREFIX + left + right
        node_hash = Hash(sha256(data).digest())
        self._come[node_hash] = data
        return node_hash

    def _is_leaf(self, node_hash: Hash) -> bool:
        data = self._come.get(node_hash) or load_node_bytes(self._nodes, node_hash)
        return data[0] == LEAF
