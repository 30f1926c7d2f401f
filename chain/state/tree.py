"""A compact sparse Merkle tree over byte keys and values, kept as content-addressed nodes.

The shape is ICS-23's `SmtSpec`: the path of a key is the bits of SHA-256(key), most significant first; a leaf is
H(0x00 | H(key) | H(value)), an inner node H(0x01 | left | right), nothing is 32 zero bytes, and a leaf that is alone
in its subtree stands at that subtree's root. So one set of pairs has one root, however it came about. It knows no
record and no disk: nodes are read through a `NodeSource`, and every root whose nodes are kept stays readable.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from chain.errors import StorageError
from chain.hashing import sha256
from chain.primitives import ZERO_HASH, Hash

EMPTY_ROOT = ZERO_HASH

NodeChanges = dict[Hash, bytes | None]
"""Stored bytes of the nodes that a tree has and the one before had not; None for those it has no more."""

KEY_BYTES_MAX = 65_535
PATH_BITS = 256
LEAF, INNER = 0, 1
"""The first byte of a stored node says which it is; it is the prefix of what is hashed too."""

_LEAF_PREFIX, _INNER_PREFIX = bytes([LEAF]), bytes([INNER])
_INNER_BYTES = 65


class NodeSource(Protocol):
    """Where nodes of the state tree are read from; who reads from a disk verifies what it finds there."""

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return the stored bytes of a node, or None when it is not kept."""


class MemoryNodes:
    """Nodes in a dictionary: for the genesis state, tools and light use."""

    def __init__(self, nodes: Mapping[Hash, bytes | None] | None = None) -> None:
        """Start from those of `nodes` that exist."""
        self._nodes: dict[Hash, bytes] = {}
        self.add(nodes or {})

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return the stored bytes of a node, or None when it is not kept."""
        return self._nodes.get(node_hash)

    def add(self, nodes: Mapping[Hash, bytes | None]) -> None:
        """Keep more nodes, and those that went too: every root seen stays readable."""
        self._nodes.update({node_hash: data for node_hash, data in nodes.items() if data is not None})


class OverlayNodes:
    """Nodes that are computed but not stored yet, over those of a source."""

    def __init__(self, source: NodeSource, nodes: NodeChanges) -> None:
        """Start with those of `nodes` that come on top of `source`."""
        self._source = source
        self._nodes: NodeChanges = {}
        self.add(nodes)

    def add(self, nodes: NodeChanges) -> None:
        """Put more nodes on top."""
        self._nodes |= nodes

    def get_state_node(self, node_hash: Hash) -> bytes | None:
        """Return a node's bytes, or None."""
        return self._nodes.get(node_hash) or self._source.get_state_node(node_hash)


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


def compute_leaf_hash(key_hash: bytes, value_hash: bytes) -> Hash:
    """Return the hash of a leaf from the hashes of its key and value."""
    return sha256(_LEAF_PREFIX + key_hash + value_hash)


def compute_inner_hash(left: bytes, right: bytes) -> Hash:
    """Return the hash of an inner node."""
    return sha256(_INNER_PREFIX + left + right)


def compute_path(key: bytes) -> Hash:
    """Return the 256 bits that say where `key` stands."""
    return sha256(key)


def get_bit(path: bytes, depth: int) -> int:
    """Return the bit of `path` that decides left (0) or right (1) below `depth` inner nodes."""
    return path[depth >> 3] >> (7 - (depth & 7)) & 1


def verify_node(node_hash: Hash, data: bytes) -> None:
    """Check that stored bytes are those of the node called `node_hash`; raises StorageError."""
    if _compute_name(data) != node_hash:
        raise StorageError(f"state node {node_hash.hex()} holds other bytes")


def load_node_bytes(nodes: NodeSource, node_hash: Hash) -> bytes:
    """Return the stored bytes of a node; raises StorageError when it is missing."""
    data = nodes.get_state_node(node_hash)
    if data is None:
        raise StorageError(f"state node {node_hash.hex()} is missing")
    return data


def load_node(nodes: NodeSource, node_hash: Hash) -> Leaf | Inner:
    """Return the node called `node_hash`; raises StorageError when it is missing."""
    data = load_node_bytes(nodes, node_hash)
    return decode_leaf(data) if data[0] == LEAF else Inner(Hash(data[1:33]), Hash(data[33:]))


def get_value(nodes: NodeSource, root: Hash, key: bytes) -> bytes | None:
    """Return the value of `key` under `root`, or None; raises StorageError."""
    path, node_hash, depth = compute_path(key), root, 0
    while node_hash != EMPTY_ROOT:
        data = load_node_bytes(nodes, node_hash)
        if data[0] == LEAF:
            end = get_key_end(data)
            return data[end:] if data[3:end] == key else None
        node_hash = Hash(data[33:] if get_bit(path, depth) else data[1:33])
        depth += 1
    return None


def iter_leaves(nodes: NodeSource, root: Hash, first: Hash = ZERO_HASH) -> Iterator[Leaf]:
    """Yield every leaf under `root` from the path `first` on, in the order of paths; raises StorageError."""
    start = int.from_bytes(first, "big")
    pending = [(root, 0, 0)]
    while pending:
        node_hash, depth, low = pending.pop()
        if node_hash == EMPTY_ROOT or low + (1 << (PATH_BITS - depth)) <= start:
            continue
        node = load_node(nodes, node_hash)
        if isinstance(node, Inner):
            pending.append((node.right, depth + 1, low + (1 << (PATH_BITS - depth - 1))))
            pending.append((node.left, depth + 1, low))
        elif not start or compute_path(node.key) >= first:
            yield node


def encode_leaf(key: bytes, value: bytes) -> bytes:
    """Return the stored bytes of a leaf."""
    return _LEAF_PREFIX + len(key).to_bytes(2, "little") + key + value


def decode_leaf(data: bytes) -> Leaf:
    """Return the leaf whose stored bytes these are."""
    end = get_key_end(data)
    return Leaf(data[3:end], data[end:])


def get_key_end(data: bytes) -> int:
    """Return where in the stored bytes of a leaf, from the fourth on, its key ends and its value starts."""
    return 3 + int.from_bytes(data[1:3], "little")


def _compute_name(data: bytes) -> Hash | None:
    """Return the hash of the node with these stored bytes; None when they are no node's."""
    if data.startswith(_INNER_PREFIX) and len(data) == _INNER_BYTES:
        return sha256(data)
    if data.startswith(_LEAF_PREFIX):
        leaf = decode_leaf(data)
        # A key that ends before its length says has the name of another leaf.
        if encode_leaf(leaf.key, leaf.value) != data:
            return None
        return compute_leaf_hash(sha256(leaf.key), sha256(leaf.value))
    return None
