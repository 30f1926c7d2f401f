"""Difficulty between opened headers (threat 58): no honest chain is refused, no heavy block comes unclimbed."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidProof
from chain.genesis import Parameters
from chain.primitives import ZERO_HASH
from consensus.history import HistoryNode, make_leaf, split_gap
from consensus.ramp import compute_ramp, compute_work_after, compute_work_bound, validate_skipped
from tests.consensus.test_history import naive_tree
from tests.support.headers import START_MS, make_context

CONTEXT = make_context()
SPAN = CONTEXT.genesis.parameters.median_span
INTERVAL_MS = CONTEXT.genesis.parameters.interval_ms


def make_times(jumps: list[int]) -> list[int]:
    """Return valid times: each the median past plus a millisecond and a jump."""
    times = [START_MS]
    for jump in jumps:
        recent = sorted(times[-SPAN:])
        times.append(recent[len(recent) // 2] + 1 + jump)
    return times


def make_leaves(times: list[int]) -> list[HistoryNode]:
    works = [0, *(compute_work_after(CONTEXT, height, time_ms) for height, time_ms in enumerate(times[:-1]))]
    return [make_leaf(ZERO_HASH, work, time_ms) for work, time_ms in zip(works, times, strict=True)]


def skip(leaves: list[HistoryNode], opened: set[int]) -> list[HistoryNode]:
    """Return the nodes of a proof that opens leaves at some heights."""
    cuts = sorted({0, *opened, len(leaves)})
    nodes = [leaves[0]]
    for start, stop in pairwise(cuts):
        if start:
            nodes.append(leaves[start])
        nodes += [naive_tree(leaves[n : n + count]) for n, count in split_gap(start + 1, stop)]
    return nodes


JUMPS = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 4_000), st.integers(0, 100_000)), min_size=2, max_size=120)


@given(JUMPS, st.data())
@settings(max_examples=150, deadline=None)
def test_no_honest_chain_is_refused(jumps: list[int], data: st.DataObject) -> None:
    """Whatever valid times a chain has, bursts, stalls and spikes, and wherever it is opened."""
    times = make_times(jumps)
    leaves = make_leaves(times[:-1])
    opened = data.draw(st.sets(st.integers(1, len(leaves)), max_size=6)) - {len(leaves)}
    validate_skipped(CONTEXT, skip(leaves, opened), times[-1])


@given(JUMPS, st.integers(1, 50))
@settings(max_examples=150, deadline=None)
def test_the_bound_is_below_a_naive_one_and_that_below_the_work(jumps: list[int], start: int) -> None:
    times = make_times([*jumps, *([0] * 70)])
    parents = range(start, len(times) - 3)
    latest_ms = min(times[parents.stop :]) - 1
    actual = sum(compute_work_after(CONTEXT, height, times[height]) for height in parents)
    early = SPAN // 2 + 1
    naive = sum(
        early * compute_work_after(CONTEXT, stop - SPAN, latest_ms)
        for stop in range(parents.stop, parents.start + SPAN - 1, -SPAN)
    )
    bound = compute_ramp(CONTEXT, parents, latest_ms, -1)
    assert 0 <= bound <= naive <= actual
    assert bound * 10 >= naive * 9, "a half-life is cut into eight parts, each a window of eleven at least"
    assert (bound > 0) == (naive > 0)


def test_work_never_falls_with_height_nor_rises_with_time() -> None:
    """What the bound leans on, over every fraction of a half-life that the cubic knows."""
    half_life_ms = CONTEXT.genesis.parameters.half_life_ms
    by_time = [compute_work_after(CONTEXT, 10, START_MS + ms) for ms in range(1, 3 * half_life_ms)]
    assert all(a >= b for a, b in pairwise(by_time))
    by_height = [compute_work_after(CONTEXT, height, START_MS + 50_000) for height in range(200)]
    assert all(a <= b for a, b in pairwise(by_height))


@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_headers_have_no_other_work(count: int) -> None:
    times = make_times([1_500] * 9)
    leaves = make_leaves(times)
    node = naive_tree(leaves[4 : 4 + count])
    assert compute_work_bound(CONTEXT, (4, node), times[3], times[5]) == (node.work, True)
    nodes = [*leaves[:4], node, *leaves[4 + count : -1]]
    validate_skipped(CONTEXT, nodes, times[-1])
    for change in (-1, 1):
        nodes[4] = replace(node, work=node.work + change)
        with pytest.raises(InvalidProof, match="proof-difficulty"):
            validate_skipped(CONTEXT, nodes, times[-1])


def make_unclimbed(height: int, hidden: int) -> tuple[list[HistoryNode], int]:
    """Return nodes that lead to a block far ahead of its schedule over `hidden` skipped headers of ordinary work."""
    times = [START_MS + INTERVAL_MS * n for n in range(height)]
    leaves = make_leaves(times)
    cheap = replace(naive_tree(leaves[height - hidden :]), last_timestamp_ms=times[height - hidden] + 40)
    nodes = skip(leaves[: height - hidden], set())
    return [*nodes, cheap], times[height - hidden] + 60


def test_threat_58_a_low_time_needs_the_climb_before_it() -> None:
    """After 128 headers at one time a block may claim 2^16 times the work; the headers must show what they cost."""
    nodes, time_ms = make_unclimbed(256, 128)
    claimed = compute_work_after(CONTEXT, 255, time_ms)
    assert claimed > nodes[-1].work * 100, "one lucky block would outweigh the ramp"
    with pytest.raises(InvalidProof, match="proof-difficulty"):
        validate_skipped(CONTEXT, nodes, time_ms)


def test_threat_58_one_low_time_anywhere_later_is_enough() -> None:
    """Times that are back on schedule at the tip do not hide the low one between."""
    hidden, height = 128, 256
    times = [START_MS + INTERVAL_MS * n for n in range(height)]
    nodes = skip(make_leaves(times), set())
    low_ms, high_ms = times[height - hidden] + 60, times[-1] + 5 * INTERVAL_MS
    light = make_leaf(ZERO_HASH, compute_work_after(CONTEXT, height - 1, times[-1]), low_ms)
    heavy = make_leaf(ZERO_HASH, compute_work_after(CONTEXT, height, low_ms), high_ms)
    with pytest.raises(InvalidProof, match="proof-difficulty"):
        validate_skipped(CONTEXT, [*nodes, light, heavy], high_ms + INTERVAL_MS)


def test_a_block_can_never_outweigh_its_ramp() -> None:
    """The largest share of one block behind the cheapest climb that passes, 16 headers apart: docs/light-client.md."""
    for intervals, height in ((8, 2_000), (288, 60_000)):
        parameters = Parameters(half_life_ms=intervals * INTERVAL_MS)
        context = make_context(parameters)
        parents = range(1, height)
        ramp = compute_ramp(context, parents, START_MS, -1)
        block = compute_work_after(context, height, START_MS)
        share_per_mille = 1_000 * block // ramp
        assert share_per_mille <= {8: 150, 288: 4}[intervals], (intervals, share_per_mille)
