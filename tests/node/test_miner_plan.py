"""A miner that follows its plan always has a live segment, within the caps of the protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.genesis import Parameters
from node.miner.plan import RoundPosition, SegmentPlan, is_commit_open, is_live, plan_segments, rank_posted
from node.options import BEST_TASK, NO_TASK
from node.rpc.views import CheckpointView, TaskView
from node.rpc.work_views import PostedWorkView

PARAMETERS = Parameters()


@pytest.mark.parametrize("start", [0, 9, 18, 900])
def test_some_segment_is_live_under_every_parent_of_a_round(start: int) -> None:
    started: dict[int, SegmentPlan] = {}
    for head in range(start, start + PARAMETERS.round_blocks):
        plans = plan_segments(RoundPosition(3, start, head), PARAMETERS, started)
        assert any(is_live(plan, head, PARAMETERS.anchor_window) for plan in plans), head
        started = {plan.index: plan for plan in plans}
    assert len(started) == PARAMETERS.segments_per_round
    assert all(plan.anchor_height >= start - 1 for plan in started.values())


@given(st.integers(0, 1000), st.integers(0, 8), st.sets(st.integers(0, 1)))
def test_plans_never_leave_the_rules(start: int, depth: int, indexes: set[int]) -> None:
    head = start + depth
    started = {index: SegmentPlan(1, index, max(start - 1, 0)) for index in sorted(indexes)}
    plans = plan_segments(RoundPosition(1, start, head), PARAMETERS, started)
    assert len({plan.index for plan in plans}) == len(plans) <= PARAMETERS.segments_per_round
    assert all(max(start - 1, 0) <= plan.anchor_height <= head for plan in plans)
    assert set(started) <= {plan.index for plan in plans}


def test_a_latecomer_mines_without_committing() -> None:
    position = RoundPosition(2, 18, 24)
    assert not is_commit_open(position, PARAMETERS)
    assert plan_segments(position, PARAMETERS, {}) == (SegmentPlan(2, 0, 23),)


def test_liveness_ends_with_the_window() -> None:
    plan = SegmentPlan(0, 0, 10)
    assert [is_live(plan, height, 8) for height in (10, 11, 18, 19)] == [False, True, True, False]
    assert is_live(SegmentPlan(0, 0, 0), 0, 8)


def test_the_posted_task_that_pays_a_segment_best_comes_first() -> None:
    """A price is worth no more than what the round may spend."""
    names = [f"0x{letter * 64}" for letter in "abc"]
    terms = ((1 << 40, 10**9, 1_000), (1 << 50, 900, 1_000), (1 << 39, 10**9, 4_000))
    posted = [make_posted(name, *each) for name, each in zip(names, terms, strict=True)]
    assert rank_posted(posted, BEST_TASK) == (names[2], names[0], names[1])
    assert rank_posted(posted, names[1]) == (names[1],)
    assert rank_posted(posted, NO_TASK) == ()


def make_posted(name: str, price: int, allowance: int, macs: int) -> PostedWorkView:
    checkpoint = CheckpointView(0, 0, name, "0", 0, 0, 0, None)
    task = TaskView(name, "a", 1, 9, 18, "10", str(price), str(allowance), macs, 90, True, checkpoint)  # fields
    return PostedWorkView(task, [])
