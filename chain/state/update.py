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
    OverlayNodes,
    compute_leaf_hash,
    compute_path,
    decode_leaf,
    encode_leaf,
    get_key_end,
    load_node_bytes,
)
from chain.state.walk import END, LEFT, RIGHT, Walk, walk_down

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
    return _climb(walk_down(nodes, root, changes), changes)


def update_walked(walk: Walk, changes: Mapping[bytes, bytes | None]) -> TreeUpdate:
    """Return what `update_tree` does, going back up a walk to most of the keys; raises StorageError."""
    update = _climb(walk, changes)
    rest = {key: value for key, value in changes.items() if key not in walk.values}
    last = update_tree(OverlayNodes(walk.nodes, update.nodes), update.root, rest)
    # What came with one and went with the other is in both trees, or in neither.
    return TreeUpdate(last.root, _unite_but_common(update.nodes, last.nodes))


def build_subtree(depth: int, leaves: Sequence[Leaf]) -> TreeUpdate:
    """Return the subtree below `depth` inner nodes that holds `leaves`, in the order of paths, and nothing else."""
    writer = _Writer(MemoryNodes())
    paths = [compute_path(leaf.key) for leaf in leaves]
    changes = [
        (int.from_bytes(path, "big"), writer.make_leaf(path, leaf.key, leaf.value))
        for path, leaf in zip(paths, leaves, strict=True)
    ]
    return _make_update(writer.build(depth, changes, 0, len(changes)), writer.come, [])


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
    return TreeUpdate(root, _unite_but_common(dict.fromkeys(gone), come))


def _unite_but_common(nodes: NodeChanges, others: Mapping[Hash, bytes | None]) -> NodeChanges:
    """Return `nodes`, now with `others`, and without what is in both."""
    common = sorted(nodes.keys() & others.keys())
    nodes |= others
    for name in common:
        del nodes[name]
    return nodes


def _climb(walk: Walk, changes: Mapping[bytes, bytes | None]) -> TreeUpdate:
    """Return the tree after those of `changes` whose keys a walk went to."""
    writer = _Writer(walk.nodes)
    come, made, keys = writer.come, list[Hash](), walk.keys
    leaves = [
        writer.make_leaf(path, key, changes[key]) if key in changes else None
        for path, key in zip(walk.paths, keys, strict=True)
    ]
    ends, high = zip(reversed(walk.ends), reversed(walk.depths), strict=True), len(keys)
    for name, data, turn in zip(reversed(walk.names), reversed(walk.datas), reversed(walk.turns), strict=True):
        if turn == END:
            low, depth = next(ends)
            leaf = leaves[low]
            if leaf is None or high - low > 1 or data[3 : get_key_end(data)] != keys[low]:
                leaf = writer.build_end(name, data, depth, walk.paths[low:high], leaves[low:high])
            made.append(leaf)
            high = low
            continue
        left = Hash(data[1:33]) if turn == RIGHT else made.pop()
        right = Hash(data[33:]) if turn == LEFT else made.pop()
        if EMPTY_ROOT in (left, right):
            made.append(writer.join(left, right))
        else:
            inner = _INNER_PREFIX + left + right
            made.append(new := Hash(sha256(inner).digest()))
            come[new] = inner
    gone = [name for name in walk.names if name != EMPTY_ROOT]
    return _make_update(made.pop() if made else walk.root, come, gone)


class _Writer:
    """The nodes that come with an update, over those of the tree before it."""

    def __init__(self, nodes: NodeSource) -> None:
        self._nodes = nodes
        self.come: dict[Hash, bytes] = {}

    def make_leaf(self, path: Hash, key: bytes, value: bytes | None) -> Hash:
        """Return the hash of the leaf of a pair, which comes; EMPTY_ROOT for no value."""
        assert len(key) <= KEY_BYTES_MAX
        if value is None:
            return EMPTY_ROOT
        leaf = compute_leaf_hash(path, sha256(value).digest())
        self.come[leaf] = encode_leaf(key, value)
        return leaf

    def build(self, depth: int, changes: Sequence[_Change], low: int, high: int) -> Hash:
        """Return the subtree at `depth` of the leaves at these places of `changes` alone."""
        if high - low < 2:
            return changes[low][1] if low < high else EMPTY_ROOT
        shift = PATH_BITS - 1 - depth
        first = changes[low][0] >> shift
        cut = low if first & 1 else bisect_left(changes, (first + 1 << shift,), low, high)
        return self.join(self.build(depth + 1, changes, low, cut), self.build(depth + 1, changes, cut, high))

    def build_end(
        self, name: Hash, data: bytes, depth: int, paths: Sequence[Hash], leaves: Sequence[Hash | None]
    ) -> Hash:
        """Return the subtree at `depth` that new leaves make of a leaf or of nothing; None leaves a path as it is."""
        placed = zip(paths, leaves, strict=True)
        changes = [(int.from_bytes(path, "big"), leaf) for path, leaf in placed if leaf is not None]
        if data:
            path = int.from_bytes(compute_path(decode_leaf(data).key), "big")
            place = bisect_left(changes, (path,))
            if place == len(changes) or changes[place][0] != path:
                self.come[name] = data
                changes.insert(place, (path, name))
        return self.build(depth, changes, 0, len(changes))

    def join(self, left: Hash, right: Hash) -> Hash:
        """Return the node over two subtrees; a lone leaf stands in its place."""
        if EMPTY_ROOT in (left, right):
            lone = right if left == EMPTY_ROOT else left
            if lone == EMPTY_ROOT or self._is_leaf(lone):
                return lone
        data = _INNER_PREFIX + left + right
        node_hash = Hash(sha256(data).digest())
        self.come[node_hash] = data
        return node_hash

    def _is_leaf(self, node_hash: Hash) -> bool:
        data = self.come.get(node_hash) or load_node_bytes(self._nodes, node_hash)
        return data[0] == LEAF
