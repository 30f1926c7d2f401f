"""Merkle trees over lists in the shape of RFC 6962, over either of two hash functions.

Leaves and inner nodes are hashed under different prefixes, an odd node is carried up unpaired, and a proof is checked
against the number of leaves, so neither a leaf nor a list can pass for another. Source: RFC 6962, section 2.1.
"""

from collections.abc import Callable, Sequence

from blake3 import blake3

from chain.errors import InvalidProof
from chain.hashing import sha256
from chain.primitives import Hash

NodeHash = Callable[[bytes], bytes]

sha256_node: NodeHash = sha256
"""What RFC 6962 itself uses."""


def blake3_node(data: bytes) -> bytes:
    """Return BLAKE3 of `data`: what trees over tensors use."""
    return blake3(data).digest()


def compute_root(leaves: Sequence[bytes], node_hash: NodeHash = sha256_node) -> Hash:
    """Return the root over `leaves` (raw bytes, not yet hashed); the empty list hashes the empty string."""
    return compute_root_of_hashes(hash_leaves(leaves, node_hash), node_hash)


def hash_leaves(leaves: Sequence[bytes], node_hash: NodeHash = sha256_node) -> list[bytes]:
    """Return the hashes that raw leaves have in a tree."""
    return [node_hash(b"\x00" + leaf) for leaf in leaves]


def compute_root_of_hashes(hashes: list[bytes], node_hash: NodeHash = sha256_node) -> Hash:
    """Return the root over leaves of which only the hashes are known."""
    return _fold(hashes, node_hash) if hashes else Hash(node_hash(b""))


def compute_path(leaves: Sequence[bytes], index: int, node_hash: NodeHash = sha256_node) -> tuple[Hash, ...]:
    """Return the sibling hashes from leaf `index` up to the root."""
    assert 0 <= index < len(leaves)
    level = hash_leaves(leaves, node_hash)
    path = []
    while len(level) > 1:
        if index ^ 1 < len(level):
            path.append(Hash(level[index ^ 1]))
        level = _parents(level, node_hash)
        index //= 2
    return tuple(path)


def verify_path(
    root: Hash, leaf: bytes, index: int, count: int, path: Sequence[Hash], node_hash: NodeHash = sha256_node
) -> None:
    """Check that `leaf` is leaf `index` of the `count` leaves under `root`; raises InvalidProof."""
    node = compute_root_by_path(leaf, index, count, path, node_hash)
    if node != root:
        raise InvalidProof("merkle-root", f"found root {node.hex()}, expected {root.hex()}")


def compute_root_by_path(
    leaf: bytes, index: int, count: int, path: Sequence[Hash], node_hash: NodeHash = sha256_node
) -> Hash:
    """Return the root that `path` leads to from `leaf`, leaf `index` of `count`; raises InvalidProof on its length."""
    validate_path_length(index, count, path)
    node, siblings, last = node_hash(b"\x00" + leaf), iter(path), count - 1
    while last > 0:
        if index % 2 == 1 or index < last:
            sibling = next(siblings)
            pair = sibling + node if index % 2 == 1 else node + sibling
            node = node_hash(b"\x01" + pair)
        index, last = index // 2, last // 2
    return Hash(node)


def validate_path_length(index: int, count: int, path: Sequence[Hash]) -> None:
    """Check, before anything is hashed, that a path of leaf `index` of `count` has its length; raises InvalidProof."""
    if not 0 <= index < count:
        raise InvalidProof("merkle-index", f"found index {index}, expected one below {count}")
    expected, last = 0, count - 1
    while last > 0:
        expected += index % 2 == 1 or index < last
        index, last = index // 2, last // 2
    if len(path) != expected:
        raise InvalidProof("merkle-length", f"found a path of {len(path)}, expected {expected}")


def _fold(level: list[bytes], node_hash: NodeHash) -> Hash:
    while len(level) > 1:
        level = _parents(level, node_hash)
    return Hash(level[0])


def _parents(level: list[bytes], node_hash: NodeHash) -> list[bytes]:
    pairs = [node_hash(b"\x01" + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + level[len(pairs) * 2 :]
