"""Settling ahead: what a round will settle is computed before the block that ends it, off every block's way.

Once commits are closed and no contribution waits for its openings any more, a round's settlement is known but for
disputes. The learning engine remembers it, so the block that ends the round finds it done. A dispute that changes what
settles costs that block the computation, and nothing else: no rule asks whether it was made ahead.
"""

import asyncio

from chain.errors import MathesisError
from chain.ledger.contributions import iter_contributions
from chain.ledger.tasks import Task, get_state, iter_live_tasks
from chain.ledger.transition import ContributionStatus
from chain.primitives import Hash
from node.chain import Chain
from node.head_follower import HeadFollower
from node.learning import Learning
from node.observability.journal import get_log

log = get_log("settler")

_WAITING = frozenset({ContributionStatus.COMMITTED, ContributionStatus.CHALLENGED})
"""Where a contribution stands that may yet be proven or expire."""


class Settler:
    """Follows the head and computes what the running rounds will settle, in a thread, one task after the other."""

    def __init__(self, chain: Chain, learning: Learning) -> None:
        """Follow the head's branch of `chain`; `learning` remembers what is computed."""
        self._chain = chain
        self._learning = learning
        self.follower = HeadFollower(self._settle)

    async def _settle(self) -> None:
        for task, checkpoint_root, settling in self._list_known():
            try:
                await asyncio.to_thread(self._compute, task, checkpoint_root, settling)
            except MathesisError as error:
                # The block that ends the round meets the same trouble, and says what becomes of it.
                log.warning("round cannot be settled ahead", task=task.name, error=str(error))
            if self.follower.has_news:
                return

    def _compute(self, task: Task, checkpoint_root: Hash, settling: tuple[Hash, ...]) -> None:
        self._learning.settle(task.spec, checkpoint_root, tuple(map(self._chain.get_sidecar, settling)))

    def _list_known(self) -> list[tuple[Task, Hash, tuple[Hash, ...]]]:
        """Return each task whose round has nothing left to wait for, its checkpoint, and the block data that settle."""
        context, view = self._chain.ledger_context, self._chain.view()
        found = []
        for task in iter_live_tasks(context, view):
            state = get_state(view, task)
            if self._chain.head.height < state.start_height + context.parameters.commit_blocks:
                continue
            entries = [entry for _, entry in iter_contributions(view, task.name, state)]
            settling = tuple(
                entry.sidecar_hash
                for entry in entries
                if entry.status is ContributionStatus.PROVEN and not entry.disputes
            )
            if settling and not any(entry.status in _WAITING for entry in entries):
                found.append((task, state.checkpoint_root, settling))
        return found
