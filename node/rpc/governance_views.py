"""How stake, proposals, votes and the values in force look in JSON, each with the proof of its key at the head.

Who trusts nobody verifies `entry.value` by `entry.proof` under a header's state root; what stands beside is for
reading, and null where the state holds nothing. It knows no method.
"""

from typing import assert_never

import msgspec

from chain.ledger.bounds import Bound
from chain.ledger.governance_records import Agenda, Choice, InForce, Proposal, Stake, Vote
from chain.ledger.stakes import compute_votes
from chain.primitives import Hash, PublicKey
from chain.transaction import Change, ChangeParameter, SpendTreasury, SubsidiseTask
from node.addresses import format_address
from node.rpc.api import StateEntry
from node.rpc.economy_views import EntryView, view_entry
from node.rpc.views import Address, Amount, HashText, Natural, to_hex


class ChangeView(msgspec.Struct, frozen=True):
    """What a proposal does: `parameter` becomes `value`, `recipient` gets `amount` atoms of the treasury, or the posted
    `task` gets `share_bp` basis points of what blocks issue for contributions.
    """

    parameter: str | None = None
    value: Amount | None = None
    recipient: Address | None = None
    amount: Amount | None = None
    task: HashText | None = None
    share_bp: Natural | None = None


class ProposalView(msgspec.Struct, frozen=True):
    """A proposal by its name; all but that and `entry` are null when there is none.

    Votes are atoms, cast in blocks up to `close_height`. `effect_height` is null unless it was accepted, `circulating`,
    which the quorum is part of, until the votes were counted.
    """

    proposal: HashText
    title: str | None
    change: ChangeView | None
    proposer: Address | None
    status: str | None
    made_height: Natural | None
    close_height: Natural | None
    effect_height: Natural | None
    deposit: Amount | None
    yes: Amount | None
    no: Amount | None
    abstain: Amount | None
    circulating: Amount | None
    entry: EntryView


class ProposalsView(msgspec.Struct, frozen=True):
    """All live proposals, oldest first, and those decided last; `entry` is the agenda that names them."""

    live: list[ProposalView]
    decided: list[ProposalView]
    entry: EntryView


class VoteView(msgspec.Struct, frozen=True):
    """An account's vote on a proposal, null where it has cast none; `weight` is what it has or would have."""

    proposal: HashText
    account: Address
    choice: str | None
    weight: Amount
    entry: EntryView


class StakeView(msgspec.Struct, frozen=True):
    """An account's stake: `amount` votes on what is proposed above `since_height`; `leaving` is free at a height."""

    account: Address
    amount: Amount
    since_height: Natural
    leaving: Amount
    release_height: Natural | None
    entry: EntryView


class ParameterView(msgspec.Struct, frozen=True):
    """A parameter that votes may change: its value in force, its bounds, and the most that one vote changes now."""

    name: str
    unit: str
    value: Amount
    lowest: Amount
    highest: Amount
    step: Amount
    reason: str


class ParametersView(msgspec.Struct, frozen=True):
    """All parameters that votes may change."""

    parameters: list[ParameterView]
    entry: EntryView


def view_proposal(name: Hash, entry: StateEntry[Proposal]) -> ProposalView:
    """Return a proposal as JSON shows it."""
    found, shown = entry.record, view_entry(entry)
    if found is None:
        return ProposalView(to_hex(name), *(None,) * 12, shown)
    return ProposalView(
        proposal=to_hex(name),
        title=found.terms.title,
        change=_view_change(found.terms.change),
        proposer=format_address(found.proposer),
        status=found.status.name.lower(),
        made_height=found.made_height,
        close_height=found.close_height,
        effect_height=found.effect_height or None,
        deposit=str(found.deposit),
        yes=str(found.yes),
        no=str(found.no),
        abstain=str(found.abstain),
        circulating=str(found.circulating) if found.circulating else None,
        entry=shown,
    )


def view_proposals(agenda: StateEntry[Agenda], proposals: dict[Hash, StateEntry[Proposal]]) -> ProposalsView:
    """Return the agenda as JSON shows it, with the proposals that it names."""
    found = agenda.record
    assert found is not None
    live = [view_proposal(entry.name, proposals[entry.name]) for entry in found.live]
    decided = [view_proposal(name, proposals[name]) for name in found.decided]
    return ProposalsView(live, decided, view_entry(agenda))


def view_vote(
    name: Hash, account: PublicKey, entry: StateEntry[Vote], proposal: Proposal | None, stake: Stake
) -> VoteView:
    """Return an account's vote as JSON shows it."""
    found = entry.record
    would = compute_votes(stake, proposal.made_height) if proposal else 0
    return VoteView(
        proposal=to_hex(name),
        account=format_address(account),
        choice=None if found is None else Choice(found.choice_code).name.lower(),
        weight=str(would if found is None else found.weight),
        entry=view_entry(entry),
    )


def view_stake(account: PublicKey, stake: Stake, entry: StateEntry[Stake]) -> StakeView:
    """Return an account's stake as JSON shows it."""
    return StakeView(
        account=format_address(account),
        amount=str(stake.amount),
        since_height=stake.since_height,
        leaving=str(stake.leaving),
        release_height=stake.release_height or None,
        entry=view_entry(entry),
    )


def view_parameters(bounds: tuple[Bound, ...], entry: StateEntry[InForce]) -> ParametersView:
    """Return the parameters that votes may change as JSON shows them."""
    shown = []
    for bound in bounds:
        value: int = getattr(entry.record, bound.name)
        lowest, highest, step = str(bound.lowest), str(bound.highest), str(bound.compute_step(value))
        shown.append(ParameterView(bound.name, bound.unit, str(value), lowest, highest, step, bound.reason))
    return ParametersView(shown, view_entry(entry))


def _view_change(change: Change) -> ChangeView:
    match change:
        case ChangeParameter():
            return ChangeView(parameter=change.parameter, value=str(change.value))
        case SpendTreasury():
            return ChangeView(recipient=format_address(change.recipient), amount=str(change.amount))
        case SubsidiseTask():
            return ChangeView(task=to_hex(change.task), share_bp=change.share_bp)
    assert_never(change)
