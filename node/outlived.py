"""Which waiting transactions a head has outlived, so that they would only hold up what their senders send next.

Meant for a round that is over, about what is decided already, or hanging on a block that is on this branch no more. It
reads a state and changes nothing.
"""

from chain.audit import ProveAudit
from chain.dispute import AnswerDispute, DisputeContribution
from chain.genesis import Parameters
from chain.ledger.audits import AUDITABLE
from chain.ledger.bonds import NOTHING, get_forfeit
from chain.ledger.context import LedgerContext
from chain.ledger.contributions import find_segment_seed
from chain.ledger.dataset_parts import has_part
from chain.ledger.governance_records import ProposalStatus
from chain.ledger.keys import contribution_key, dispute_key, proposal_key
from chain.ledger.records import ContributionKey, DisputeKey
from chain.state.view import StateView
from chain.transaction import (
    AddDatasetPart,
    CastVote,
    CommitContribution,
    ProveContribution,
    ReportEquivocation,
    Transaction,
)


def is_outdated(transaction: Transaction, round_number: int) -> bool:
    """Say whether a transaction was meant for a round before the running one."""
    action = transaction.body.action
    return isinstance(action, CommitContribution | ProveContribution | ProveAudit) and action.round < round_number


def is_spent(parameters: Parameters, view: StateView, transaction: Transaction, height: int) -> bool:
    """Say whether in a block at `height` it is about what is decided, or of what this branch has another instead."""
    match transaction.body.action:
        case CastVote(proposal=name):
            proposal = view.get(proposal_key(name))
            return proposal is not None and proposal.status is not ProposalStatus.OPEN
        case AddDatasetPart() as part:
            return has_part(view, part)
        case ProveAudit() | DisputeContribution() as action:
            return not _is_of_segment(view, action)
        case AnswerDispute() as answer:
            # Miner and auditor may both have answered; the second answer must not hold up what its sender sends next.
            key = DisputeKey(answer.task, answer.round, answer.miner, answer.index, answer.challenger)
            dispute = view.get(dispute_key(key))
            return dispute is None or bool(dispute.is_answered)
        case ReportEquivocation(first=first):
            return get_forfeit(parameters, view, first, height) == NOTHING
    return False


def _is_of_segment(view: StateView, action: ProveAudit | DisputeContribution) -> bool:
    """Say whether the segment stands that an audit or a dispute is about, and its audit may still be proven."""
    named = ContributionKey(action.miner, action.index)
    contribution = view.get(contribution_key(action.task, action.round, named))
    if contribution is None:
        return False
    if isinstance(action, DisputeContribution):
        return contribution.sidecar_hash == action.sidecar_hash
    return contribution.status in AUDITABLE and contribution.challenge == action.challenge


def is_uprooted(context: LedgerContext, view: StateView, transaction: Transaction, first_left: int) -> bool:
    """Say whether a commit or opening hangs on a beacon of a block that was left, the lowest at `first_left`."""
    action = transaction.body.action
    if isinstance(action, CommitContribution):
        return action.seed != find_segment_seed(context, view, transaction.body.sender, action)
    if not isinstance(action, ProveContribution):
        return False
    named = ContributionKey(transaction.body.sender, action.index)
    opened = view.get(contribution_key(action.task, action.round, named))
    return opened is None or opened.commit_height + context.parameters.challenge_delay >= first_left
