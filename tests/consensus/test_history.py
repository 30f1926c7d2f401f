"""The mountain range against a naive one, and proofs that show what they claim and nothing else."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import decode, encode
from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from chain.primitives import Hash
from consensus.history import History, HistoryNode, HistoryProof, join, make_leaf, prove_header, verify_header_proof
from tests.support.headers import grow, make_chain, make_context


def make_leaves(count: int) -> list[HistoryNode]:
    return [make_leaf(tagged_hash("leaf", bytes([n, n >> 8])), 100 + n, 1_000 * n) for n in range(count)]


def naive_peaks(leaves: list[HistoryNode]) -> list[HistoryNode]:
    if not leaves:
        return []
    size = 1 << (len(leaves).bit_length() - 1)
    level = leaves[:size]
    while len(level) > 1:
        level = [join(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return level + naive_peaks(leaves[size:])


def naive_root(leaves: list[HistoryNode]) -> Hash:
    return History(tuple(naive_peaks(leaves))).compute_root()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 21])
def test_appending_equals_building(count: int) -> None:
    context = make_context()
    chain = make_chain(context)
    tip = grow(context, chain, chain.genesis, count)
    headers = [tip.get_ancestor(height) for height in range(count + 1)]
    leaves, before = [], 0
    for entry in headers:
        leaves.append(make_leaf(entry.hash, entry.total_work - before, entry.header.foliage.timestamp_ms))
        before = entry.total_work
    assert tip.history.peaks == tuple(naive_peaks(leaves))
    assert (tip.history.count, tip.history.work) == (count + 1, tip.total_work)
    if count:
        assert tip.header.foliage.history_root == naive_root(leaves[:-1])


def test_appending_changes_nothing_that_exists() -> None:
    context = make_context()
    chain = make_chain(context)
    before = chain.genesis.history.compute_root()
    grow(context, chain, chain.genesis, 3)
    assert chain.genesis.history.compute_root() == before


@given(st.integers(1, 70), st.data())
@settings(max_examples=60, deadline=None)
def test_every_leaf_is_provable(count: int, data: st.DataObject) -> None:
    leaves = make_leaves(count)
    index = data.draw(st.integers(0, count - 1))
    proof = prove_header(leaves, index)
    verify_header_proof(naive_root(leaves), leaves[index], proof)
    assert decode(HistoryProof, encode(proof), 64 * 1024) == proof
    assert len(proof.siblings) <= count.bit_length()


def mutate_node(node: HistoryNode, draw: st.DataObject) -> HistoryNode:
    field = draw.draw(st.sampled_from(["digest", "count", "work", "first_timestamp_ms", "last_timestamp_ms"]))
    value = Hash(bytes(32)) if field == "digest" else getattr(node, field) + draw.draw(st.sampled_from([1, 2, 64]))
    return replace(node, **{field: value})  # type: ignore[arg-type]  # a field by name


@given(st.integers(2, 40), st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_proof_is_refused(count: int, data: st.DataObject) -> None:
    leaves = make_leaves(count)
    index = data.draw(st.integers(0, count - 1))
    proof, leaf = prove_header(leaves, index), leaves[index]
    part = data.draw(st.sampled_from(["index", "count", "siblings", "peaks", "leaf", "drop"]))
    if part == "index":
        proof = replace(proof, index=data.draw(st.integers(0, count + 3).filter(lambda i: i != index)))
    elif part == "count":
        proof = replace(proof, count=data.draw(st.integers(0, 2 * count).filter(lambda c: c != count)))
    elif part == "leaf":
        leaf = mutate_node(leaf, data)
    elif part == "drop":
        proof = replace(proof, peaks=proof.peaks[:-1])
    else:
        nodes = list(getattr(proof, part))
        if not nodes:
            part, nodes = "peaks", list(proof.peaks)
        place = data.draw(st.integers(0, len(nodes) - 1))
        nodes[place] = mutate_node(nodes[place], data)
        proof = replace(proof, **{part: tuple(nodes)})  # type: ignore[arg-type]  # a field by name
    with pytest.raises(InvalidProof) as caught:
        verify_header_proof(naive_root(leaves), leaf, proof)
    assert caught.value.rule.startswith("history-")


def test_work_cannot_be_moved_between_siblings() -> None:
    leaves = make_leaves(4)
    proof = prove_header(leaves, 0)
    heavier = replace(proof.siblings[0], work=proof.siblings[0].work + 1)
    with pytest.raises(InvalidProof, match="history-peak"):
        verify_header_proof(
            naive_root(leaves),
            replace(leaves[0], work=leaves[0].work - 1),
            replace(proof, siblings=(heavier, proof.siblings[1])),
        )


def test_a_subtree_is_no_leaf() -> None:
    leaves = make_leaves(4)
    inner = join(leaves[0], leaves[1])
    forged = HistoryProof(0, 4, (join(leaves[2], leaves[3]),), prove_header(leaves, 0).peaks)
    with pytest.raises(InvalidProof):
        verify_header_proof(naive_root(leaves), inner, forged)


def test_a_lone_peak_binds_the_work_of_its_leaf() -> None:
    leaves = make_leaves(5)
    proof = prove_header(leaves, 4)
    assert proof.siblings == ()
    with pytest.raises(InvalidProof, match="history-peak"):
        verify_header_proof(naive_root(leaves), replace(leaves[4], work=1), proof)
