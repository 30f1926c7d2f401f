"""What a miner should be working on: which segments to start, and which may mine under the current parent.

Pure arithmetic over heights; it knows neither the network nor a tensor. Source: docs/protocol.md, rounds and anchors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chain.genesis import Parameters
from chain.ledger.pricing import compute_payment
from node.options import BEST_TASK
from node.rpc.views import HashText
from node.rpc.work_views import PostedWorkView


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """One segment a miner runs: its place in the round and the height of the beacon it hangs on."""

    round: int
    index: int
    anchor_height: int


@dataclass(frozen=True, slots=True)
class RoundPosition:
    """Where the head stands in the current round."""

    round: int
    start_height: int
    head_height: int


def is_live(plan: SegmentPlan, parent_height: int, anchor_window: int) -> bool:
    """Say whether tickets of the segment count under a parent at this height."""
    first = 0 if plan.anchor_height == 0 else plan.anchor_height + 1
    return first <= parent_height <= plan.anchor_height + anchor_window


def is_commit_open(position: RoundPosition, parameters: Parameters) -> bool:
    """Say whether the next block may still hold a commit of the round."""
    return position.head_height + 1 <= position.start_height + parameters.commit_blocks


def rank_posted(posted: Sequence[PostedWorkView], wanted: str) -> tuple[HashText, ...]:
    """Return the posted tasks that are wanted, those first whose next segment is paid most."""

    def compute_pay(each: PostedWorkView) -> int:
        task = each.task
        return compute_payment(int(task.price), int(task.allowance), task.segment_macs, task.segment_macs)

    names = [each.task.task for each in sorted(posted, key=compute_pay, reverse=True)]
    return tuple(name for name in names if wanted in (BEST_TASK, name))


def plan_segments(
    position: RoundPosition, parameters: Parameters, started: Mapping[int, SegmentPlan]
) -> tuple[SegmentPlan, ...]:
    """Return the segments that should be running, given those already started in this round by index.

    Segment i starts i blocks into the round, so that the anchors are staggered and some segment is live until the
    round settles. A miner that comes after the commits have closed runs one segment all the same: its tickets extend
    the chain although their reward burns.
    """
    fresh_anchor = max(position.head_height - 1, 0)
    plans = [plan for plan in started.values() if plan.round == position.round]
    if is_commit_open(position, parameters):
        due = min(position.head_height - position.start_height + 1, parameters.segments_per_round)
        missing = [index for index in range(due) if index not in {plan.index for plan in plans}]
        plans += [SegmentPlan(position.round, index, fresh_anchor) for index in missing]
    if not any(is_live(plan, position.head_height, parameters.anchor_window) for plan in plans):
        spare = next(
            (index for index in range(parameters.segments_per_round) if index not in {plan.index for plan in plans}),
            None,
        )
        if spare is not None:
            plans.append(SegmentPlan(position.round, spare, fresh_anchor))
    return tuple(sorted(plans, key=lambda plan: plan.index))
