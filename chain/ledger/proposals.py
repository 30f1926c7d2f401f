"""Proposals: made for a deposit, voted on by stake, counted when they close, in effect where a later round begins.

A proposal does one thing, and whatever it does was within bounds when it was proposed and is when it takes effect. It
takes effect at the end of a block that ends a round, so no number changes within one. All that is live stands in one
record, the agenda, so a block finds what is due in it without looking anywhere else. It moves no balance but deposits
and what the treasury is made to pay.
"""

from dataclasses import replace
from typing import assert_never

from chain.codec import encode
from chain.errors import InvalidTransaction
from chain.genesis import Parameters
from chain.hashing import tagged_hash
from chain.ledger.accounts import apply_burn, apply_credit, apply_debit, get_account
from chain.ledger.bounds import SPEND_PERCENT_MAX, compute_changed, validate_step
from chain.ledger.context import BlockScope, Event, ProposalChanged
from chain.ledger.governance_records import (
    DECIDED_MAX,
    LIVE_MAX,
    Agenda,
    Choice,
    LiveProposal,
    Proposal,
    ProposalStatus,
    Vote,
)
from chain.ledger.keys import AGENDA_KEY, IN_FORCE_KEY, SUPPLY_KEY, proposal_key, vote_key
from chain.ledger.records import Supply
from chain.ledger.stakes import compute_votes, get_stake
from chain.ledger.task_pots import apply_share, validate_share_possible
from chain.primitives import BASIS_POINTS, Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import CastVote, Change, ChangeParameter, ProposeChange, SpendTreasury, SubsidiseTask


def compute_proposal_id(chain_id: Hash, proposer: PublicKey, nonce: int, terms: ProposeChange) -> Hash:
    """Return the name of a proposal that `proposer` makes with the transaction `nonce`."""
    return tagged_hash("proposal", chain_id, proposer, nonce.to_bytes(8, "little"), encode(terms))


def compute_effect_height(parameters: Parameters, close_height: int) -> int:
    """Return the height of the block with which what closed at `close_height` takes effect: one that ends a round."""
    earliest, round_blocks = close_height + parameters.enactment_blocks, parameters.round_blocks
    return -(-earliest // round_blocks) * round_blocks


def compute_circulating(supply: Supply) -> int:
    """Return all atoms that somebody may own: those that have burned or lie in the treasury vote for nobody."""
    return supply.allocated + supply.issued - supply.burned - supply.treasury


def is_quorum(parameters: Parameters, proposal: Proposal, circulating: int) -> bool:
    """Say whether enough have voted on a proposal, whatever they said."""
    turnout = proposal.yes + proposal.no + proposal.abstain
    return turnout * BASIS_POINTS >= parameters.quorum_bp * circulating


def apply_propose(scope: BlockScope, view: StateView, sender: PublicKey, terms: ProposeChange) -> tuple[Event, ...]:
    """Open a proposal and lock its deposit; raises InvalidTransaction."""
    parameters, height = scope.context.parameters, scope.draft.height
    agenda = view.get_existing(AGENDA_KEY)
    if len(agenda.live) >= LIVE_MAX:
        raise InvalidTransaction("agenda-full", f"found {len(agenda.live)} live proposals, the most there may be")
    validate_possible(view, terms.change)
    # The sender's nonce counts this transaction already.
    name = compute_proposal_id(scope.context.chain_id, sender, get_account(view, sender).nonce - 1, terms)
    apply_debit(view, sender, parameters.proposal_deposit)
    proposal = Proposal(
        proposer=sender,
        terms=terms,
        status_code=int(ProposalStatus.OPEN),
        made_height=height,
        close_height=height + parameters.voting_blocks,
        effect_height=0,
        deposit=parameters.proposal_deposit,
        yes=0,
        no=0,
        abstain=0,
        circulating=0,
    )
    view.put(proposal_key(name), proposal)
    view.put(AGENDA_KEY, replace(agenda, live=(*agenda.live, LiveProposal(name, proposal.close_height))))
    return (ProposalChanged(name, ProposalStatus.OPEN),)


def validate_possible(view: StateView, change: Change) -> None:
    """Check that a change could take effect now; raises InvalidTransaction."""
    match change:
        case ChangeParameter():
            validate_step(change, view.get_existing(IN_FORCE_KEY))
        case SpendTreasury(amount=amount):
            amount_max = view.get_existing(SUPPLY_KEY).treasury * SPEND_PERCENT_MAX // 100
            if amount > amount_max:
                message = f"found {amount} atoms, expected at most {amount_max}, a quarter of the treasury"
                raise InvalidTransaction("spend-treasury", message)
        case SubsidiseTask():
            validate_share_possible(view, change)
        case _:
            assert_never(change)


def apply_vote(view: StateView, sender: PublicKey, vote: CastVote) -> None:
    """Count the sender's stake for its choice, or move what it has cast to another; raises InvalidTransaction."""
    proposal = view.get(proposal_key(vote.proposal))
    if proposal is None:
        raise InvalidTransaction("proposal-unknown", f"found {vote.proposal.hex()}, expected a proposal")
    if proposal.status is not ProposalStatus.OPEN:
        message = f"found one that is {proposal.status.name.lower()}, expected an open proposal"
        raise InvalidTransaction("proposal-closed", message)
    before = view.get(vote_key(vote.proposal, sender))
    if before is not None:
        proposal = _count(proposal, Choice(before.choice_code), -before.weight)
    stake = get_stake(view, sender)
    weight = compute_votes(stake, proposal.made_height) if before is None else before.weight
    if not weight:
        message = f"found {stake.amount} atoms since height {stake.since_height}, expected some from before"
        raise InvalidTransaction("vote-stake", f"{message} height {proposal.made_height}")
    view.put(proposal_key(vote.proposal), _count(proposal, Choice(vote.choice_code), weight))
    view.put(vote_key(vote.proposal, sender), Vote(vote.choice_code, weight))


def apply_agenda(scope: BlockScope, view: StateView) -> tuple[Event, ...]:
    """Close the proposals whose last votes stand in this block, and do what those say that take effect with it."""
    agenda, height = view.get_existing(AGENDA_KEY), scope.draft.height
    live: list[LiveProposal] = []
    decided, events = list(agenda.decided), list[Event]()
    for entry in agenda.live:
        if height < entry.due_height:
            live.append(entry)
            continue
        proposal = view.get_existing(proposal_key(entry.name))
        is_open = proposal.status is ProposalStatus.OPEN
        after = _close(scope, view, proposal) if is_open else _enact(view, proposal)
        view.put(proposal_key(entry.name), after)
        events.append(ProposalChanged(entry.name, after.status))
        if after.status is ProposalStatus.ACCEPTED:
            live.append(LiveProposal(entry.name, after.effect_height))
        else:
            decided.append(entry.name)
    if events:
        view.put(AGENDA_KEY, Agenda(tuple(live), tuple(decided[-DECIDED_MAX:])))
    return tuple(events)


def _close(scope: BlockScope, view: StateView, proposal: Proposal) -> Proposal:
    """Return a proposal with its votes counted; its deposit goes back if enough have voted, and burns otherwise."""
    parameters, circulating = scope.context.parameters, compute_circulating(view.get_existing(SUPPLY_KEY))
    counted = replace(proposal, deposit=0, circulating=circulating)
    if not is_quorum(parameters, proposal, circulating):
        apply_burn(view, proposal.deposit)
        return replace(counted, status_code=int(ProposalStatus.EXPIRED))
    apply_credit(view, proposal.proposer, proposal.deposit)
    if proposal.yes <= proposal.no:
        return replace(counted, status_code=int(ProposalStatus.REJECTED))
    effect_height = compute_effect_height(parameters, proposal.close_height)
    return replace(counted, status_code=int(ProposalStatus.ACCEPTED), effect_height=effect_height)


def _enact(view: StateView, proposal: Proposal) -> Proposal:
    """Do what an accepted proposal says, unless what was done before it has made that impossible."""
    change = proposal.terms.change
    try:
        validate_possible(view, change)
    except InvalidTransaction:
        return replace(proposal, status_code=int(ProposalStatus.LAPSED))
    match change:
        case ChangeParameter():
            view.put(IN_FORCE_KEY, compute_changed(view.get_existing(IN_FORCE_KEY), change))
        case SpendTreasury(recipient=recipient, amount=amount):
            supply = view.get_existing(SUPPLY_KEY)
            view.put(SUPPLY_KEY, replace(supply, treasury=supply.treasury - amount))
            apply_credit(view, recipient, amount)
        case SubsidiseTask():
            apply_share(view, change)
        case _:
            assert_never(change)
    return replace(proposal, status_code=int(ProposalStatus.ENACTED))


def _count(proposal: Proposal, choice: Choice, weight: int) -> Proposal:
    match choice:
        case Choice.YES:
            return replace(proposal, yes=proposal.yes + weight)
        case Choice.NO:
            return replace(proposal, no=proposal.no + weight)
        case Choice.ABSTAIN:
            return replace(proposal, abstain=proposal.abstain + weight)
    assert_never(choice)
