"""How a miner's work looks in JSON, and the disputes that it has to answer.

The other half of `node.rpc.views`, whose forms of hashes, amounts and records hold here too. It knows no method.
"""

import msgspec

from chain.codec import encode
from chain.ledger.records import Dispute, DisputeKey
from node.addresses import format_address
from node.rpc.api import MinerWork
from node.rpc.views import (
    Address,
    Amount,
    ContributionView,
    HashText,
    HeaderView,
    Natural,
    Record,
    TaskView,
    to_hex,
    view_contribution,
    view_header,
    view_task,
)


class AnchorView(msgspec.Struct, frozen=True):
    """A height whose beacon may seed a segment."""

    height: Natural
    beacon: HashText


class DisputeView(msgspec.Struct, frozen=True):
    """An open dispute: who demands what of which op, whose turn it is, and the last block in which it may move."""

    task: HashText
    round: Natural
    miner: Address
    index: Natural
    challenger: Address
    step: Natural
    op: Natural
    demand: str
    is_answered: bool
    deadline: Natural
    deposit: Amount
    record: Record


class DemandView(msgspec.Struct, frozen=True):
    """What a challenger demands of a segment of the node's own, and the seed of that segment."""

    dispute: DisputeView
    seed: HashText


class PostedWorkView(msgspec.Struct, frozen=True):
    """A posted task whose round runs, and the node's own contributions to it."""

    task: TaskView
    contributions: list[ContributionView]


class WorkView(msgspec.Struct, frozen=True):
    """What a miner needs to train and to look for tickets on the head."""

    parent: HeaderView
    target: HashText
    task: TaskView
    miner: Address
    anchors: list[AnchorView]
    contributions: list[ContributionView]
    next_index: Natural | None
    posted: list[PostedWorkView]
    demands: list[DemandView]
    obstacle: str | None


def view_dispute(key: DisputeKey, dispute: Dispute) -> DisputeView:
    """Return an open dispute as JSON shows it; `record` is what the state holds."""
    return DisputeView(
        task=to_hex(key.task),
        round=key.round,
        miner=format_address(key.miner),
        index=key.index,
        challenger=format_address(key.challenger),
        step=dispute.step,
        op=dispute.op,
        demand=type(dispute.demand).__name__,
        is_answered=bool(dispute.is_answered),
        deadline=dispute.deadline,
        deposit=str(dispute.deposit),
        record=encode(dispute),
    )


def view_work(work: MinerWork) -> WorkView:
    """Return a miner's work as JSON shows it."""
    return WorkView(
        parent=view_header(work.parent),
        target=to_hex(work.target.to_bytes(32, "big")),
        task=view_task(work.task),
        miner=format_address(work.miner),
        anchors=[AnchorView(anchor.height, to_hex(anchor.beacon)) for anchor in work.anchors],
        contributions=[view_contribution(info) for info in work.contributions],
        next_index=work.next_index,
        posted=[
            PostedWorkView(view_task(posted.task), [view_contribution(info) for info in posted.contributions])
            for posted in work.posted
        ],
        demands=[DemandView(view_dispute(info.key, info.dispute), to_hex(info.seed)) for info in work.demands],
        obstacle=work.obstacle,
    )
