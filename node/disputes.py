"""Open disputes of a state, and the answers that were given in them: reads that auditor, queries and exports share.

Every open dispute stands among those due at its deadline, so the few heights ahead name them all. It decides nothing.
"""

from collections.abc import Iterator

from chain.dispute import AnswerDispute
from chain.ledger.context import LedgerContext, get_task_state
from chain.ledger.keys import contribution_key, dispute_key, due_disputes_key
from chain.ledger.records import Contribution, ContributionKey, Dispute, DisputeKey
from chain.state.view import StateView
from node.chain import Chain


def iter_disputes(context: LedgerContext, view: StateView) -> Iterator[tuple[DisputeKey, Dispute]]:
    """Yield the disputes that a state holds, by deadline and then in the order in which it was set."""
    start, parameters = get_task_state(context, view).start_height, context.parameters
    # Whatever block of the running round the state belongs to, all that is open is due within a window from there.
    for deadline in range(start, start + parameters.round_blocks + parameters.dispute_window + 1):
        due = view.get(due_disputes_key(deadline))
        for key in () if due is None else due.keys:
            dispute = view.get(dispute_key(key))
            if dispute is not None and dispute.deadline == deadline:
                yield key, dispute


def get_contribution(view: StateView, key: DisputeKey) -> Contribution:
    """Return the contribution that a dispute is about."""
    named = ContributionKey(key.miner, key.index)
    return view.get_existing(contribution_key(key.task, key.round, named))


def find_answer(chain: Chain, key: DisputeKey) -> bytes | None:
    """Return the newest answer in a dispute among the blocks that may hold one its challenger can still react to."""
    head = chain.head
    lowest = max(0, head.height - chain.parameters.dispute_window)
    for height in range(head.height, lowest, -1):
        block = chain.get_existing_block(head.get_ancestor(height).hash)
        for transaction in reversed(block.transactions):
            action = transaction.body.action
            if not isinstance(action, AnswerDispute):
                continue
            if DisputeKey(action.task, action.round, action.miner, action.index, action.challenger) == key:
                return action.answer
    return None
