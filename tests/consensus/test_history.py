"""The mountain range against a naive one, and trees that cover gaps."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.hashing import tagged_hash
from chain.primitives import Hash
from consensus.history import History, HistoryNode, join, make_leaf, split_gap
from tests.support.headers import grow, make_chain, make_context


def make_leaves(count: int) -> list[HistoryNode]:
    return [make_leaf(tagged_hash("leaf", n.to_bytes(2, "big")), 100 + n, 1_000 * n) for n in range(count)]


def naive_tree(leaves: list[HistoryNode]) -> HistoryNode:
    while len(leaves) > 1:
        leaves = [join(leaves[i], leaves[i + 1]) for i in range(0, len(leaves), 2)]
    return leaves[0]


def naive_peaks(leaves: list[HistoryNode]) -> list[HistoryNode]:
    if not leaves:
        return []
    size = 1 << (len(leaves).bit_length() - 1)
    return [naive_tree(leaves[:size]), *naive_peaks(leaves[size:])]


def naive_root(leaves: list[HistoryNode]) -> Hash:
    return tagged_hash("history.root", *(peak.to_bytes() for peak in naive_peaks(leaves)))


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


def test_a_node_is_hashed_as_its_88_bytes() -> None:
    node = HistoryNode(Hash(b"\x07" * 32), 1, 2, 3, 4)
    numbers = ((1, 8), (2, 32), (3, 8), (4, 8))
    assert node.to_bytes() == b"\x07" * 32 + b"".join(value.to_bytes(size, "big") for value, size in numbers)


@given(st.lists(st.integers(1, 90), max_size=6))
@settings(deadline=None)
def test_stepping_over_gaps_equals_appending(lengths: list[int]) -> None:
    """Leaves one by one and whole trees lead to the same peaks, wherever the gaps lie."""
    leaves = make_leaves(sum(lengths))
    history, is_gap = History(), False
    for length in lengths:
        start = history.count
        pieces = split_gap(start, start + length) if is_gap else ((n, 1) for n in range(start, start + length))
        for place, count in pieces:
            assert place == history.count
            history = history.extend(naive_tree(leaves[place : place + count]))
        is_gap = not is_gap
    assert history.peaks == tuple(naive_peaks(leaves))
    assert (history.count, history.work) == (len(leaves), sum(leaf.work for leaf in leaves))


@given(st.integers(0, 5_000), st.integers(0, 5_000))
def test_a_gap_is_cut_into_the_fewest_trees(start: int, length: int) -> None:
    pieces = list(split_gap(start, start + length))
    assert [place for place, _ in pieces] == [start + sum(c for _, c in pieces[:i]) for i in range(len(pieces))]
    assert sum(count for _, count in pieces) == length
    assert all(place % count == 0 and count & count - 1 == 0 for place, count in pieces)
    neighbours = pairwise(pieces)
    assert not any(a[1] == b[1] and a[0] // a[1] % 2 == 0 for a, b in neighbours), "two halves make a wider tree"


def test_a_tree_stands_only_where_it_belongs() -> None:
    leaves = make_leaves(4)
    with pytest.raises(AssertionError):
        History().extend(leaves[0]).extend(naive_tree(leaves[:2]))


def test_the_digest_binds_each_sum() -> None:
    left, right = make_leaves(2)
    fields = ("digest", "count", "work", "first_timestamp_ms", "last_timestamp_ms")
    others = [replace(right, **{name: b"\0" * 32 if name == "digest" else 9}) for name in fields]  # type: ignore[arg-type]
    assert len({join(left, other).digest for other in [right, *others]}) == len(fields) + 1
