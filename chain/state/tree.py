"""A compact sparse Merkle tree over byte keys and values, kept as content-addressed nodes.

The shape is ICS-23's `SmtSpec`: the path of a key is the bits of SHA-256(key), most significant first; a leaf is
H(0x00 | H(key) | H(value)), an inner node H(0x01 | left | right), nothing is 32 zero bytes, and a leaf that is alone
in its subtree stands at that subtree's root. So one set of pairs has one root, however it came about. It knows no
record and no disk: nodes are read through a `NodeSource`, and every root whose nodes are kept stays readable.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chain.errors import StorageError
from chain.hashing import sha256
from chain.primitives import ZERO_HASH, Hash

EMPTY_ROOT = ZERO_HASH
KEY_BYTES_MAX = 65_535
_LEAF, _INNER = b"\x00", b"\x01"


class NodeSource(Protocol):
    """Where nodes of the state tree are read from."""

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return the stored bytes of a node, or None when it is not kept."""


class MemoryNodes:
    """Nodes in a dictionary: for the genesis state, tools and light use."""

    def __init__(self, nodes: Mapping[Hash, bytes] | None = None) -> None:
        """Start from a copy of `nodes`."""
        self._nodes = dict(nodes or {})

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return the stored bytes of a node, or None when it is not kept."""
        return self._nodes.get(node_hash)

    def add(self, nodes: Mapping[Hash, bytes]) -> None:
        """Keep more nodes."""
        self._nodes.update(nodes)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A key and its value."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Inner:
    """Two children; at most one of them is empty, and then the other is no leaf."""

    left: Hash
    right: Hash


@dataclass(frozen=True, slots=True)
class TreeUpdate:
    """The root after a batch of changes and the nodes that did not exist before."""

    root: Hash
    new_nodes: dict[Hash, bytes]


def compute_leaf_hash(key_hash: bytes, value_hash: bytes) -> Hash:
    """Return the hash of a leaf from the hashes of its key and value."""
    return sha256(_LEAF, key_hash, value_hash)


def compute_inner_hash(left: bytes, right: bytes) -> Hash:
    """Return the hash of an inner node."""
    return sha256(_INNER, left, right)


def compute_path(key: bytes) -> Hash:
    """Return the 256 bits that say where `key` stands."""
    return sha256(key)


def get_bit(path: bytes, depth: int) -> int:
    """Return the bit of `path` that decides left (0) or right (1) below `depth` inner nodes."""
    return path[depth >> 3] >> (7 - (depth & 7)) & 1


def load_node(nodes: NodeSource, node_hash: Hash) -> Leaf | Inner:
    """Return the node called `node_hash`; raises StorageError when it is missing or not what its name says."""
    data = nodes.get_state_node(node_hash)
    if data is None:
        raise StorageError(f"state node {node_hash.hex()} is missing")
    node = _decode_node(data)
    if node is None or _compute_hash(node) != node_hash:
        raise StorageError(f"state node {node_hash.hex()} holds other bytes")
    return node


def get_value(nodes: NodeSource, root: Hash, key: bytes) -> bytes | None:
    """Return the value of `key` under `root`, or None; raises StorageError."""
    path, node_hash, depth = compute_path(key), root, 0
    while node_hash != EMPTY_ROOT:
        node = load_node(nodes, node_hash)
        if isinstance(node, Leaf):
            return node.value if node.key == key else None
        node_hash = node.right if get_bit(path, depth) else node.left
        depth += 1
    return None


def iter_leaves(nodes: NodeSource, root: Hash) -> Iterator[Leaf]:
    """Yield every leaf under `root` in the order of paths; raises StorageError."""
    pending = [root]
    while pending:
        node_hash = pending.pop()
        if node_hash == EMPTY_ROOT:
            continue
        node = load_node(nodes, node_hash)
        if isinstance(node, Leaf):
            yield node
        else:
            pending += [node.right, node.left]


def update_tree(nodes: NodeSource, root: Hash, changes: Mapping[bytes, bytes | None]) -> TreeUpdate:
    """Return the tree after setting each key of `changes` to its value, or removing it where that is None.

    Costs one new node a level and touched key. Raises StorageError.
    """
    assert all(len(key) <= KEY_BYTES_MAX for key in changes)
    writer = _Writer(nodes)
    ordered = sorted(_Change(compute_path(key), key, value) for key, value in changes.items())
    return TreeUpdate(writer.update(root, 0, ordered), writer.new_nodes)


@dataclass(frozen=True, slots=True, order=True)
class _Change:
    path: bytes
    key: bytes
    value: bytes | None


class _Writer:
    """One batch of changes on its way down the tree."""

    def __init__(self, nodes: NodeSource) -> None:
        self._nodes = nodes
        self.new_nodes: dict[Hash, bytes] = {}

    def update(self, node_hash: Hash, depth: int, changes: Sequence[_Change]) -> Hash:
        if not changes:
            return node_hash
        if node_hash == EMPTY_ROOT:
            return self._build(depth, changes)
        node = load_node(self._nodes, node_hash)
        if isinstance(node, Leaf):
            return self._build(depth, _with_leaf(node, changes))
        cut = _find_cut(changes, depth)
        left = self.update(node.left, depth + 1, changes[:cut])
        right = self.update(node.right, depth + 1, changes[cut:])
        return node_hash if (left, right) == (node.left, node.right) else self._join(left, right)

    def _build(self, depth: int, changes: Sequence[_Change]) -> Hash:
        kept = [change for change in changes if change.value is not None]
        if not kept:
            return EMPTY_ROOT
        if len(kept) == 1:
            assert kept[0].value is not None
            return self._store(Leaf(kept[0].key, kept[0].value))
        cut = _find_cut(kept, depth)
        return self._join(self._build(depth + 1, kept[:cut]), self._build(depth + 1, kept[cut:]))

    def _join(self, left: Hash, right: Hash) -> Hash:
        for lone, other in ((left, right), (right, left)):
            if other == EMPTY_ROOT and (lone == EMPTY_ROOT or self._is_leaf(lone)):
                return lone
        return self._store(Inner(left, right))

    def _is_leaf(self, node_hash: Hash) -> bool:
        data = self.new_nodes.get(node_hash)
        return data.startswith(_LEAF) if data is not None else isinstance(load_node(self._nodes, node_hash), Leaf)

    def _store(self, node: Leaf | Inner) -> Hash:
        node_hash = _compute_hash(node)
        self.new_nodes[node_hash] = _encode_node(node)
        return node_hash


def _find_cut(changes: Sequence[_Change], depth: int) -> int:
    """Return how many of the ordered `changes` go left below `depth`."""
    low, high = 0, len(changes)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if get_bit(changes[middle].path, depth) else (middle + 1, high)
    return low


def _with_leaf(leaf: Leaf, changes: Sequence[_Change]) -> Sequence[_Change]:
    if any(change.key == leaf.key for change in changes):
        return changes
    return sorted([*changes, _Change(compute_path(leaf.key), leaf.key, leaf.value)])


def _compute_hash(node: Leaf | Inner) -> Hash:
    if isinstance(node, Leaf):
        return compute_leaf_hash(sha256(node.key), sha256(node.value))
    return compute_inner_hash(node.left, node.right)


def _encode_node(node: Leaf | Inner) -> bytes:
    if isinstance(node, Leaf):
        return _LEAF + len(node.key).to_bytes(2, "little") + node.key + node.value
    return _INNER + node.left + node.right


def _decode_node(data: bytes) -> Leaf | Inner | None:
    if data.startswith(_LEAF):
        end = 3 + int.from_bytes(data[1:3], "little")
        return Leaf(data[3:end], data[end:])
    if data.startswith(_INNER) and len(data) == 65:
        return Inner(Hash(data[1:33]), Hash(data[33:]))
    return None
