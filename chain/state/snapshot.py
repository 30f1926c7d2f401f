"""A state in chunks that prove themselves: each holds all leaves between two paths, bound to the root alone.

A chunk goes from its first path to its last. Nodes that its range only cuts into stand beside the leaves, so whoever
knows the root walks down from it and finds every subtree of the range whole: a leaf that is left out, added or altered
changes a hash on the way. The verified nodes are the tree's own, so chunks may come in any order and from anybody. It
knows no disk, no header and no peer. Source: ICS-23, `SmtSpec`; docs/adr/0031-snapshots-by-paths.md.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Annotated

from chain.codec import Bytes, HashField, Many, encode
from chain.errors import InvalidProof, StorageError
from chain.primitives import Hash
from chain.state.tree import (
    EMPTY_ROOT,
    INNER,
    KEY_BYTES_MAX,
    LEAF,
    PATH_BITS,
    Leaf,
    NodeSource,
    compute_leaf_hash,
    compute_path,
    decode_leaf,
    encode_leaf,
    iter_leaves,
    load_node_bytes,
)
from chain.state.update import build_subtree

CHUNK_BYTES_MAX = 1024 * 1024
LEAVES_PER_CHUNK_MAX = 32_768
FIRST_PATH, LAST_PATH = Hash(bytes(32)), Hash(b"\xff" * 32)

_BOUNDARY_NODE_BYTES = 65
_BOUNDARY_NODES_MAX = 2 * PATH_BITS
_LEAF_OVERHEAD_BYTES = 16
_LEAVES_BYTES_MAX = CHUNK_BYTES_MAX - _BOUNDARY_NODES_MAX * (_BOUNDARY_NODE_BYTES + 2) - 128
"""What leaves may take so that any boundary fits beside them."""


@dataclass(frozen=True, slots=True)
class LeafRecord:
    """A key and its value as they travel."""

    key: Annotated[bytes, Bytes(0, KEY_BYTES_MAX)]
    value: Annotated[bytes, Bytes(0, CHUNK_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class StateChunk:
    """All leaves with paths from `first` to `last`, and from the root down the nodes that this range cuts into.

    Such a node stands as what its hash is made of: prefix and two hashes, of children or of a leaf's key and value.
    """

    first: HashField
    last: HashField
    boundary: Annotated[
        tuple[Annotated[bytes, Bytes(_BOUNDARY_NODE_BYTES, _BOUNDARY_NODE_BYTES)], ...], Many(_BOUNDARY_NODES_MAX)
    ]
    leaves: Annotated[tuple[LeafRecord, ...], Many(LEAVES_PER_CHUNK_MAX)]


def compute_next_path(path: Hash) -> Hash:
    """Return the path behind one that is not the last."""
    return Hash((int.from_bytes(path, "big") + 1).to_bytes(32, "big"))


def make_chunk(nodes: NodeSource, root: Hash, first: Hash) -> StateChunk:
    """Return the chunk of the tree under `root` that starts at the path `first`; raises StorageError."""
    leaves: list[LeafRecord] = []
    size_bytes, last = 0, LAST_PATH
    for leaf in iter_leaves(nodes, root, first):
        size_bytes += _measure(leaf)
        if size_bytes > _LEAVES_BYTES_MAX or len(leaves) == LEAVES_PER_CHUNK_MAX:
            if not leaves:
                raise StorageError(
                    f"found a leaf of {size_bytes} bytes, expected at most {_LEAVES_BYTES_MAX} in a chunk"
                )
            last = compute_path(leaves[-1].key)
            break
        leaves.append(LeafRecord(leaf.key, leaf.value))
    chunk = StateChunk(first, last, tuple(_iter_boundary(nodes, root, _Range(first, last))), tuple(leaves))
    assert len(encode(chunk)) <= CHUNK_BYTES_MAX
    return chunk


def is_full(chunk: StateChunk, following: StateChunk) -> bool:
    """Say whether a chunk had no room for the first leaf of the one behind it: only then does it end before that."""
    size_bytes = sum(map(_measure, (*chunk.leaves, *following.leaves[:1])))
    is_whole = size_bytes > _LEAVES_BYTES_MAX or len(chunk.leaves) == LEAVES_PER_CHUNK_MAX
    return is_whole and bool(following.leaves)


def iter_chunks(nodes: NodeSource, root: Hash) -> Iterator[StateChunk]:
    """Yield the whole state under `root` in chunks by path; raises StorageError."""
    first = FIRST_PATH
    while True:
        chunk = make_chunk(nodes, root, first)
        yield chunk
        if chunk.last == LAST_PATH:
            return
        first = compute_next_path(chunk.last)


def verify_chunk(root: Hash, chunk: StateChunk) -> dict[Hash, bytes]:
    """Return the nodes of the tree under `root` that a chunk shows, all of its range; raises InvalidProof."""
    if chunk.first > chunk.last:
        raise InvalidProof("chunk-range", f"found {chunk.first.hex()} to {chunk.last.hex()}, expected a range")
    paths = [compute_path(leaf.key) for leaf in chunk.leaves]
    if any(later <= earlier for earlier, later in pairwise(paths)):
        raise InvalidProof("chunk-order", "found leaves out of order, expected each behind the one before")
    if paths and not (chunk.first <= paths[0] and paths[-1] <= chunk.last):
        raise InvalidProof("chunk-range", "found a leaf outside of the range, expected all inside")
    walk = _Verification(chunk, [int.from_bytes(path, "big") for path in paths])
    walk.descend(root, 0, 0, range(len(paths)))
    if walk.boundary_left:
        raise InvalidProof("chunk-boundary", f"found {walk.boundary_left} nodes too many beside the leaves")
    return walk.nodes


def _measure(leaf: Leaf | LeafRecord) -> int:
    return len(leaf.key) + len(leaf.value) + _LEAF_OVERHEAD_BYTES


class _Range:
    """Paths as integers, both ends included."""

    def __init__(self, first: Hash, last: Hash) -> None:
        self.first = int.from_bytes(first, "big")
        self.last = int.from_bytes(last, "big")

    def misses(self, low: int, depth: int) -> bool:
        """Say whether no path of the subtree at `depth` that starts with path `low` is in the range."""
        return low > self.last or low + _span(depth) <= self.first

    def holds(self, low: int, depth: int) -> bool:
        """Say whether all paths of that subtree are in the range."""
        return self.first <= low and low + _span(depth) - 1 <= self.last


class _Verification:
    """One chunk on the way down from the root."""

    def __init__(self, chunk: StateChunk, paths: Sequence[int]) -> None:
        self._range = _Range(chunk.first, chunk.last)
        self._leaves = [Leaf(leaf.key, leaf.value) for leaf in chunk.leaves]
        self._paths = paths
        self._boundary = iter(chunk.boundary)
        self.boundary_left = len(chunk.boundary)
        self.nodes: dict[Hash, bytes] = {}

    def descend(self, node_hash: Hash, depth: int, low: int, places: range) -> None:
        """Check the subtree called `node_hash`; `places` are those of its leaves in the chunk."""
        if self._range.misses(low, depth):
            return
        if self._range.holds(low, depth):
            built = build_subtree(depth, self._leaves[places.start : places.stop])
            _compare(built.root, node_hash)
            self.nodes |= {name: data for name, data in built.nodes.items() if data is not None}
        elif node_hash == EMPTY_ROOT:
            _compare_count(len(places), 0)
        else:
            self._cut(node_hash, depth, low, places)

    def _cut(self, node_hash: Hash, depth: int, low: int, places: range) -> None:
        """Go on below a node of which the range holds a part."""
        data = next(self._boundary, b"")
        self.boundary_left -= 1
        if sha256(data).digest() != node_hash or data[0] not in (LEAF, INNER):
            raise InvalidProof("chunk-boundary", f"found another node beside the leaves, expected {node_hash.hex()}")
        if data[0] == LEAF:
            is_inside = self._range.first <= int.from_bytes(data[1:33], "big") <= self._range.last
            _compare_count(len(places), int(is_inside))
            for leaf in self._leaves[places.start : places.stop]:
                _compare(compute_leaf_hash(compute_path(leaf.key), sha256(leaf.value).digest()), node_hash)
                self.nodes[node_hash] = encode_leaf(leaf.key, leaf.value)
            return
        self.nodes[node_hash] = data
        middle = low + _span(depth + 1)
        cut = bisect_left(self._paths, middle, places.start, places.stop)
        self.descend(Hash(data[1:33]), depth + 1, low, range(places.start, cut))
        self.descend(Hash(data[33:]), depth + 1, middle, range(cut, places.stop))


def _compare(found: Hash, expected: Hash) -> None:
    if found != expected:
        raise InvalidProof("chunk-root", f"found leaves under {found.hex()}, expected {expected.hex()}")


def _compare_count(found: int, expected: int) -> None:
    if found != expected:
        raise InvalidProof("chunk-leaves", f"found {found} leaves at an end of the range, expected {expected}")


def _span(depth: int) -> int:
    return 1 << (PATH_BITS - depth)


def _iter_boundary(nodes: NodeSource, root: Hash, bounds: _Range) -> Iterator[bytes]:
    """Yield what the hashes are made of, of the nodes that a range cuts into, in the order of `_Verification`."""
    pending = [(root, 0, 0)]
    while pending:
        node_hash, depth, low = pending.pop()
        if node_hash == EMPTY_ROOT or bounds.misses(low, depth) or bounds.holds(low, depth):
            continue
        data = load_node_bytes(nodes, node_hash)
        if data[0] == LEAF:
            leaf = decode_leaf(data)
            yield bytes([LEAF]) + compute_path(leaf.key) + sha256(leaf.value).digest()
        else:
            yield data
            pending.append((Hash(data[33:]), depth + 1, low + _span(depth + 1)))
            pending.append((Hash(data[1:33]), depth + 1, low))
