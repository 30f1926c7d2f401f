"""Proofs that the state holds a pair, or holds nothing under a key, checked against a root alone.

A proof is the way down to where the key must stand: the siblings passed and, when another key's leaf stands there
instead, the hashes of that leaf. It needs no tree, no node and no disk, so a light client can check it. Source:
ICS-23, `SmtSpec`; absence is shown by the place itself rather than by its two neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from chain.codec import HashField, Many
from chain.errors import InvalidProof
from chain.hashing import sha256
from chain.primitives import Hash
from chain.state.tree import (
    EMPTY_ROOT,
    Leaf,
    NodeSource,
    compute_inner_hash,
    compute_leaf_hash,
    compute_path,
    get_bit,
    load_node,
)

DEPTH_MAX = 256
STATE_PROOF_BYTES_MAX = 16 * 1024


@dataclass(frozen=True, slots=True)
class OtherLeaf:
    """The leaf of another key, by the hashes of that key and its value."""

    key_hash: HashField
    value_hash: HashField


@dataclass(frozen=True, slots=True)
class StateProof:
    """The siblings from the root down, and the other key's leaf that ends the way of an absent key, if one does."""

    siblings: Annotated[tuple[HashField, ...], Many(DEPTH_MAX)]
    other_leaf: Annotated[tuple[OtherLeaf, ...], Many(1)]


def prove_key(nodes: NodeSource, root: Hash, key: bytes) -> StateProof:
    """Return the proof of what `key` holds under `root`, be it nothing; raises StorageError."""
    path, node_hash, siblings = compute_path(key), root, list[Hash]()
    while node_hash != EMPTY_ROOT:
        node = load_node(nodes, node_hash)
        if isinstance(node, Leaf):
            others = () if node.key == key else (OtherLeaf(sha256(node.key), sha256(node.value)),)
            return StateProof(tuple(siblings), others)
        children = (node.left, node.right)
        bit = get_bit(path, len(siblings))
        siblings.append(children[1 - bit])
        node_hash = children[bit]
    return StateProof(tuple(siblings), ())


def verify_inclusion(root: Hash, key: bytes, value: bytes, proof: StateProof) -> None:
    """Check that `key` holds `value` under `root`; raises InvalidProof."""
    if proof.other_leaf:
        raise InvalidProof("state-proof-kind", "found another key's leaf, expected the key's own")
    path = compute_path(key)
    _verify_root(root, path, compute_leaf_hash(path, sha256(value)), proof.siblings)


def verify_exclusion(root: Hash, key: bytes, proof: StateProof) -> None:
    """Check that `key` holds nothing under `root`; raises InvalidProof."""
    path = compute_path(key)
    if not proof.other_leaf:
        _verify_root(root, path, EMPTY_ROOT, proof.siblings)
        return
    other = proof.other_leaf[0]
    depth = len(proof.siblings)
    if other.key_hash == path:
        raise InvalidProof("state-proof-kind", "found the key's own leaf, expected another's")
    if depth > DEPTH_MAX or any(get_bit(other.key_hash, d) != get_bit(path, d) for d in range(depth)):
        raise InvalidProof("state-proof-path", f"found a leaf off the way, expected {depth} bits in common")
    _verify_root(root, path, compute_leaf_hash(other.key_hash, other.value_hash), proof.siblings)


def _verify_root(root: Hash, path: bytes, node: Hash, siblings: Sequence[Hash]) -> None:
    if len(siblings) > DEPTH_MAX:
        raise InvalidProof("state-proof-length", f"found {len(siblings)} siblings, expected at most {DEPTH_MAX}")
    for depth in reversed(range(len(siblings))):
        pair = (siblings[depth], node) if get_bit(path, depth) else (node, siblings[depth])
        node = compute_inner_hash(*pair)
    if node != root:
        raise InvalidProof("state-proof-root", f"found root {node.hex()}, expected {root.hex()}")
