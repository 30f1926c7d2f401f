"""The audits of a state: who was drawn for which segment, and who has vouched; reads that auditor and queries share.

It decides nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from chain.ledger.context import LedgerContext, get_task_state
from chain.ledger.contributions import iter_contributions
from chain.ledger.keys import audits_key
from chain.ledger.records import Contribution, ContributionKey, DisputeKey
from chain.primitives import PublicKey
from chain.state.view import StateView


@dataclass(frozen=True, slots=True)
class Assignment:
    """A segment of the running round that an auditor was drawn for."""

    round: int
    key: ContributionKey
    contribution: Contribution
    auditor: PublicKey
    is_proven: bool


def iter_assignments(context: LedgerContext, view: StateView) -> Iterator[Assignment]:
    """Yield the running round's assignments, by miner and index and then as they were drawn."""
    state = get_task_state(context, view)
    for key, contribution in iter_contributions(context, view, state):
        found = view.get(audits_key(context.task_id, state.round, key))
        for audit in () if found is None else found.audits:
            yield Assignment(state.round, key, contribution, audit.auditor, bool(audit.is_proven))


def has_vouched(context: LedgerContext, view: StateView, dispute: DisputeKey, auditor: PublicKey) -> bool:
    """Say whether an auditor has proven the audit of what a dispute is about."""
    named = ContributionKey(dispute.miner, dispute.index)
    found = view.get(audits_key(context.task_id, dispute.round, named))
    return found is not None and any(audit.auditor == auditor and audit.is_proven for audit in found.audits)
