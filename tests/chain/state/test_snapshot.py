"""Chunks of a state hold against its root, rebuild it, and are refused with any leaf left out, added or altered."""

from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidProof, StorageError
from chain.primitives import Hash
from chain.state import snapshot
from chain.state.snapshot import (
    CHUNK_BYTES_MAX,
    FIRST_PATH,
    LAST_PATH,
    LeafRecord,
    StateChunk,
    compute_next_path,
    is_full,
    iter_chunks,
    make_chunk,
    verify_chunk,
)
from chain.state.tree import EMPTY_ROOT, MemoryNodes, compute_path, iter_leaves
from chain.state.update import update_tree

PAIRS = st.dictionaries(st.binary(max_size=3), st.binary(max_size=40), max_size=40)
PATHS = st.binary(min_size=32, max_size=32).map(Hash) | st.binary(max_size=3).map(compute_path)


def build(pairs: dict[bytes, bytes]) -> tuple[Hash, MemoryNodes]:
    update = update_tree(MemoryNodes(), EMPTY_ROOT, pairs)
    return update.root, MemoryNodes(update.nodes)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_LEAVES_BYTES_MAX", 160)


@given(PAIRS)
@example({})
def test_chunks_rebuild_the_tree_and_nothing_else(pairs: dict[bytes, bytes]) -> None:
    root, nodes = build(pairs)
    found: dict[Hash, bytes] = {}
    chunks = list(iter_chunks(nodes, root))
    assert len(chunks) > len(pairs) // 12, "the limit on leaves was not met"
    for chunk in reversed(chunks):
        decoded = decode(StateChunk, encode(chunk), CHUNK_BYTES_MAX)
        found |= verify_chunk(root, decoded)
    assert found == update_tree(MemoryNodes(), EMPTY_ROOT, pairs).nodes
    assert {leaf.key: leaf.value for leaf in iter_leaves(MemoryNodes(found), root)} == pairs
    ends = [(chunk.first, chunk.last) for chunk in chunks]
    assert ends[0][0] == FIRST_PATH
    assert ends[-1][1] == LAST_PATH
    assert all(first == compute_next_path(last) for (_, last), (first, _) in pairwise(ends))
    assert all(is_full(chunk, following) for chunk, following in pairwise(chunks))
    assert not any(is_full(replace(chunk, leaves=()), after) for chunk, after in pairwise(chunks))


@given(PAIRS, PATHS)
def test_a_chunk_may_start_anywhere(pairs: dict[bytes, bytes], first: Hash) -> None:
    root, nodes = build(pairs)
    chunk = make_chunk(nodes, root, first)
    verify_chunk(root, chunk)
    expected = [key for key in sorted(pairs, key=compute_path) if first <= compute_path(key) <= chunk.last]
    assert [leaf.key for leaf in chunk.leaves] == expected


@st.composite
def forgeries(draw: st.DrawFn) -> tuple[dict[bytes, bytes], StateChunk, StateChunk]:
    """Return pairs, an honest chunk of theirs and one that differs from it."""
    pairs = draw(PAIRS)
    root, nodes = build(pairs)
    honest = draw(st.sampled_from(list(iter_chunks(nodes, root))))
    leaves = list(honest.leaves)
    kind = draw(st.sampled_from(["drop", "add", "alter", "shrink", "grow", "boundary", "other"]))
    if kind == "drop" and leaves:
        leaves.pop(draw(st.integers(0, len(leaves) - 1)))
    elif kind == "add":
        leaves.append(LeafRecord(draw(st.binary(max_size=3)), b"!"))
        leaves = sorted({leaf.key: leaf for leaf in leaves}.values(), key=lambda leaf: compute_path(leaf.key))
    elif kind == "alter" and leaves:
        place = draw(st.integers(0, len(leaves) - 1))
        leaves[place] = replace(leaves[place], value=leaves[place].value + b"!")
    forged = replace(honest, leaves=tuple(leaves))
    if kind == "shrink":
        forged = replace(forged, last=draw(PATHS))
    elif kind == "grow":
        forged = replace(forged, first=FIRST_PATH, last=LAST_PATH)
    elif kind == "boundary":
        nodes_beside: list[bytes] = list(honest.boundary)
        is_less: bool = draw(st.booleans())
        if nodes_beside and is_less:
            nodes_beside.pop(draw(st.integers(0, len(nodes_beside) - 1)))
        else:
            nodes_beside.insert(draw(st.integers(0, len(nodes_beside))), draw(st.binary(min_size=65, max_size=65)))
        forged = replace(forged, boundary=tuple(nodes_beside))
    elif kind == "other":
        other_root, other_nodes = build(pairs | {b"another": b"state"})
        forged = make_chunk(other_nodes, other_root, honest.first)
    return pairs, honest, forged


@settings(max_examples=400, deadline=None)
@given(forgeries())
def test_a_forged_chunk_is_refused(case: tuple[dict[bytes, bytes], StateChunk, StateChunk]) -> None:
    pairs, honest, forged = case
    assume(forged != honest)
    root, _ = build(pairs)
    inside = {key: value for key, value in pairs.items() if forged.first <= compute_path(key) <= forged.last}
    is_true = {leaf.key: leaf.value for leaf in forged.leaves} == inside
    try:
        verify_chunk(root, forged)
    except InvalidProof:
        return
    # Another range with all its leaves may be cut by the same nodes; then it says nothing but the truth.
    assert is_true
    assert [leaf.key for leaf in forged.leaves] == sorted(inside, key=compute_path)


def test_no_leaf_can_be_added_or_left_out_where_a_range_cuts_the_tree() -> None:
    # Every pair of keys, every start: leaves that stand alone and empty places are cut in all ways.
    keys = sorted((b"%d" % number for number in range(14)), key=compute_path)
    for pair in combinations(keys, 2):
        root, nodes = build(dict.fromkeys(pair, b"value"))
        for first in map(compute_path, keys):
            chunk = make_chunk(nodes, root, first)
            verify_chunk(root, chunk)
            held = {leaf.key for leaf in chunk.leaves}
            for key in [key for key in keys if compute_path(key) >= first]:
                forged = held ^ {key}
                leaves = tuple(LeafRecord(each, b"value") for each in keys if each in forged)
                with pytest.raises(InvalidProof):
                    verify_chunk(root, replace(chunk, leaves=leaves))


def test_nodes_too_many_and_ranges_upside_down_are_refused() -> None:
    root, nodes = build({b"%d" % number: b"value" for number in range(30)})
    chunk = list(iter_chunks(nodes, root))[1]
    for forged, rule in (
        (replace(chunk, boundary=(*chunk.boundary, chunk.boundary[0])), "chunk-boundary"),
        (replace(chunk, boundary=()), "chunk-boundary"),
        (replace(chunk, first=chunk.last, last=chunk.first), "chunk-range"),
        (replace(chunk, leaves=chunk.leaves[::-1]), "chunk-order"),
        (replace(chunk, first=compute_next_path(compute_path(chunk.leaves[0].key))), "chunk-range"),
    ):
        with pytest.raises(InvalidProof, match=rule):
            verify_chunk(root, forged)


def test_the_lone_leaf_of_a_cut_subtree_cannot_hide_the_rest() -> None:
    # An inner node passed off as a leaf would empty the part of the range that it covers.
    pairs = {b"%d" % number: b"value" for number in range(8)}
    root, nodes = build(pairs)
    for first in sorted(map(compute_path, pairs)):
        chunk = make_chunk(nodes, root, first)
        for place, data in enumerate(chunk.boundary):
            disguised = (*chunk.boundary[:place], b"\x00" + data[1:], *chunk.boundary[place + 1 :])
            if disguised == chunk.boundary:
                continue
            with pytest.raises(InvalidProof):
                verify_chunk(root, replace(chunk, boundary=disguised))


def test_a_chunk_in_other_bytes_is_refused_or_as_true() -> None:
    root, nodes = build({b"%d" % number: b"value" for number in range(30)})
    chunk = list(iter_chunks(nodes, root))[1]
    data = encode(chunk)
    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]
        try:
            forged = decode(StateChunk, damaged, CHUNK_BYTES_MAX)
            verify_chunk(root, forged)
        except (DecodeError, InvalidProof):
            continue
        # An end that moves where no leaf lies leaves the chunk as true as it was.
        assert replace(forged, first=chunk.first, last=chunk.last) == chunk


def test_a_leaf_that_fits_no_chunk_is_named() -> None:
    root, nodes = build({b"big": bytes(200)})
    with pytest.raises(StorageError, match="found a leaf of 219 bytes"):
        make_chunk(nodes, root, FIRST_PATH)
