"""The state tree against a definition of its shape, and its proofs against everything that may be altered."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import decode, encode
from chain.errors import InvalidProof, StorageError
from chain.primitives import Hash
from chain.state.proof import (
    STATE_PROOF_BYTES_MAX,
    OtherLeaf,
    StateProof,
    prove_key,
    verify_exclusion,
    verify_inclusion,
)
from chain.state.tree import EMPTY_ROOT, MemoryNodes, get_value, iter_leaves, verify_node
from chain.state.update import TreeUpdate, compute_difference, update_tree, update_walked
from chain.state.walk import walk_down

KEYS = st.binary(max_size=3)
PAIRS = st.dictionaries(KEYS, st.binary(max_size=40), max_size=24)


def define_root(pairs: dict[bytes, bytes]) -> bytes:
    """Return the root by the definition alone, over bit strings."""

    def digest(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    def subtree(leaves: list[tuple[str, bytes]], depth: int) -> bytes:
        if len(leaves) < 2:
            return leaves[0][1] if leaves else bytes(32)
        sides = [subtree([leaf for leaf in leaves if leaf[0][depth] == bit], depth + 1) for bit in "01"]
        return digest(b"\x01" + sides[0] + sides[1])

    leaves = [
        (f"{int.from_bytes(digest(key), 'big'):0256b}", digest(b"\x00" + digest(key) + digest(value)))
        for key, value in pairs.items()
    ]
    return subtree(leaves, 0)


def build(pairs: dict[bytes, bytes]) -> tuple[Hash, MemoryNodes]:
    update = update_tree(MemoryNodes(), EMPTY_ROOT, pairs)
    return update.root, MemoryNodes(update.nodes)


def apply(nodes: MemoryNodes, update: TreeUpdate) -> Hash:
    nodes.add(update.nodes)
    return update.root


@given(PAIRS)
def test_the_root_is_the_defined_one(pairs: dict[bytes, bytes]) -> None:
    assert build(pairs)[0] == define_root(pairs)


@given(PAIRS, st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=8), max_size=6), max_size=6))
def test_any_history_of_changes_leads_to_the_root_of_what_remains(
    pairs: dict[bytes, bytes], batches: list[dict[bytes, bytes | None]]
) -> None:
    root, nodes = build(pairs)
    model = dict(pairs)
    for batch in batches:
        root = apply(nodes, update_tree(nodes, root, batch))
        model.update({key: value for key, value in batch.items() if value is not None})
        model = {key: value for key, value in model.items() if batch.get(key, b"") is not None}
        assert root == define_root(model)
    assert {leaf.key: leaf.value for leaf in iter_leaves(nodes, root)} == model


@given(PAIRS, PAIRS)
def test_old_roots_stay_readable(first: dict[bytes, bytes], second: dict[bytes, bytes]) -> None:
    old_root, nodes = build(first)
    apply(nodes, update_tree(nodes, old_root, second))
    for key in {**first, **second}:
        assert get_value(nodes, old_root, key) == first.get(key)


@given(PAIRS, st.dictionaries(KEYS, st.none() | st.binary(max_size=8), max_size=12))
def test_what_comes_and_goes_is_the_difference_of_both_trees(
    pairs: dict[bytes, bytes], changes: dict[bytes, bytes | None]
) -> None:
    root, nodes = build(pairs)
    update = update_tree(nodes, root, changes)
    after = pairs | {key: value for key, value in changes.items() if value is not None}
    after = {key: value for key, value in after.items() if changes.get(key, b"") is not None}
    before, expected = (update_tree(MemoryNodes(), EMPTY_ROOT, model).nodes for model in (pairs, after))
    assert update.nodes == {name: expected.get(name) for name in before.keys() ^ expected.keys()}
    nodes.add(update.nodes)
    assert compute_difference(nodes, root, update.root) == update
    assert compute_difference(nodes, update.root, root).nodes == {
        name: before.get(name) for name in before.keys() ^ expected.keys()
    }


@given(PAIRS, st.lists(KEYS, max_size=12), st.dictionaries(KEYS, st.none() | st.binary(max_size=8), max_size=12))
def test_a_walk_reads_what_stands_there_and_a_change_may_go_up_along_any(
    pairs: dict[bytes, bytes], walked: list[bytes], changes: dict[bytes, bytes | None]
) -> None:
    root, nodes = build(pairs)
    for keys in (walked, [*walked, *changes], list(changes)):
        walk = walk_down(nodes, root, keys)
        assert walk.values == {key: pairs.get(key) for key in keys}
        assert update_walked(walk, changes) == update_tree(nodes, root, changes)


@settings(max_examples=60)
@given(PAIRS, KEYS)
def test_every_key_has_its_proof_and_no_other(pairs: dict[bytes, bytes], absent: bytes) -> None:
    root, nodes = build(pairs)
    for key in {**pairs, absent: b""}:
        proof = prove_key(nodes, root, key)
        assert decode(StateProof, encode(proof), STATE_PROOF_BYTES_MAX) == proof
        if key in pairs:
            verify_inclusion(root, key, pairs[key], proof)
            with pytest.raises(InvalidProof):
                verify_inclusion(root, key, pairs[key] + b"!", proof)
            with pytest.raises(InvalidProof):
                verify_exclusion(root, key, proof)
        else:
            verify_exclusion(root, key, proof)
            with pytest.raises(InvalidProof):
                verify_inclusion(root, key, b"", proof)


PAIRS_PROVEN = {bytes([number]): b"value %d" % number for number in range(40)}


def alterations(proof: StateProof) -> list[StateProof]:
    """Return the proof with each part changed, dropped or added."""
    siblings = proof.siblings
    altered = [replace(proof, siblings=siblings[:-1]), replace(proof, siblings=(*siblings, Hash(bytes(32))))]
    altered += [replace(proof, siblings=(*siblings, *[Hash(bytes(32))] * 300))]
    for place, sibling in enumerate(siblings):
        flipped = Hash(bytes([sibling[0] ^ 1]) + sibling[1:])
        altered.append(replace(proof, siblings=(*siblings[:place], flipped, *siblings[place + 1 :])))
    for other in proof.other_leaf:
        altered.append(replace(proof, other_leaf=()))
        altered.append(replace(proof, other_leaf=(OtherLeaf(other.value_hash, other.key_hash),)))
        altered.append(replace(proof, other_leaf=(replace(other, value_hash=Hash(bytes(32))),)))
    if not proof.other_leaf:
        altered.append(replace(proof, other_leaf=(OtherLeaf(Hash(bytes(32)), Hash(bytes(32))),)))
    return altered


def test_an_altered_proof_is_refused() -> None:
    root, nodes = build(PAIRS_PROVEN)
    for key, value in PAIRS_PROVEN.items():
        for altered in alterations(prove_key(nodes, root, key)):
            with pytest.raises(InvalidProof):
                verify_inclusion(root, key, value, altered)
    kinds = set()
    for number in range(40, 140):
        key = bytes([number])
        proof = prove_key(nodes, root, key)
        kinds.add(len(proof.other_leaf))
        for altered in alterations(proof):
            with pytest.raises(InvalidProof):
                verify_exclusion(root, key, altered)
    assert kinds == {0, 1}, "both an empty place and another's leaf were met"


def test_a_present_key_cannot_be_shown_absent_by_any_prefix_of_its_way() -> None:
    root, nodes = build(PAIRS_PROVEN)
    key = bytes([7])
    proof = prove_key(nodes, root, key)
    own = OtherLeaf(Hash(hashlib.sha256(key).digest()), Hash(hashlib.sha256(PAIRS_PROVEN[key]).digest()))
    for depth in range(len(proof.siblings) + 1):
        for leaf in ((), (own,)):
            with pytest.raises(InvalidProof):
                verify_exclusion(root, key, StateProof(proof.siblings[:depth], leaf))


def test_a_leaf_that_stands_off_the_way_is_refused_before_hashing() -> None:
    root, nodes = build(PAIRS_PROVEN)
    proof = prove_key(nodes, root, b"absent")
    path = hashlib.sha256(b"absent").digest()
    off_way = OtherLeaf(Hash(bytes([path[0] ^ 128]) + path[1:]), Hash(bytes(32)))
    with pytest.raises(InvalidProof) as refusal:
        verify_exclusion(root, b"absent", replace(proof, other_leaf=(off_way,)))
    assert refusal.value.rule == "state-proof-path"


def test_the_empty_tree_proves_absence() -> None:
    verify_exclusion(EMPTY_ROOT, b"key", StateProof((), ()))
    with pytest.raises(InvalidProof) as refusal:
        verify_exclusion(build({b"key": b""})[0], b"key", StateProof((), ()))
    assert refusal.value.rule == "state-proof-root"


def test_a_missing_or_altered_node_is_never_read_as_absence() -> None:
    root = build(PAIRS_PROVEN)[0]
    with pytest.raises(StorageError, match="missing"):
        get_value(MemoryNodes(), root, b"\x01")
    for data in (b"\x00\x01\x00kv", b"\x01" + bytes(64), b"\x01" + bytes(63), b"\x02", b""):
        with pytest.raises(StorageError, match="other bytes"):
            verify_node(root, data)
