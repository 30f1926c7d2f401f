"""The audits of a state: who was drawn for which segment, and who has vouched; reads that auditor and queries share.

It decides nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from chain.ledger.context import LedgerContext
from chain.ledger.contributions import iter_contributions
from chain.ledger.keys import audits_key
from chain.ledger.records import Contribution, ContributionKey, DisputeKey
from chain.ledger.tasks import Task, get_state, iter_live_tasks
from chain.primitives import PublicKey
from chain.state.view import StateView


@dataclass(frozen=True, slots=True)
class Assignment:
    """A segment of a task's running round that an auditor was drawn for."""

    task: Task
    round: int
    key: ContributionKey
    contribution: Contribution
    auditor: PublicKey
    is_proven: bool


def iter_assignments(context: LedgerContext, view: StateView) -> Iterator[Assignment]:
    """Yield the running round's assignments: genesis' task first, by miner and index, then as they were drawn."""
    for task in iter_live_tasks(context, view):
        state = get_state(view, task)
        for key, contribution in iter_contributions(view, task.name, state):
            found = view.get(audits_key(task.name, state.round, key))
            for audit in () if found is None else found.audits:
                yield Assignment(task, state.round, key, contribution, audit.auditor, bool(audit.is_proven))


def has_vouched(view: StateView, dispute: DisputeKey, auditor: PublicKey) -> bool:
    """Say whether an auditor has proven the audit of what a dispute is about."""
    named = ContributionKey(dispute.miner, dispute.index)
    found = view.get(audits_key(dispute.task, dispute.round, named))
    return found is not None and any(audit.auditor == auditor and audit.is_proven for audit in found.audits)
