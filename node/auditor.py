"""The auditor: re-executes every committed segment as soon as it is on the chain, and says which do not hold.

It works in a thread beside the node, on what the learning engine remembers, so that settling a round finds the answers
ready. For now every validator settles by re-execution; an auditor that disputes comes to stand in this place.
"""

import asyncio
from collections.abc import Iterable

from chain.errors import MathesisError
from chain.ledger.context import ContributionChanged, get_segment_context, get_task_state
from chain.ledger.keys import contribution_key
from chain.ledger.learning import LearningEngine
from chain.ledger.records import ContributionKey
from chain.ledger.transition import ContributionStatus
from node.chain import Chain
from node.importer import HeadChange
from node.observability.journal import get_log
from node.observability.tally import Tally

log = get_log("auditor")


class Auditor:
    """Watches commits and counts what it finds."""

    def __init__(self, chain: Chain, learning: LearningEngine) -> None:
        """Audit the head's branch of `chain`."""
        self._chain = chain
        self._learning = learning
        self._tasks: set[asyncio.Task[None]] = set()
        self.audits = Tally(("honest", "mismatch"))

    def on_head(self, change: HeadChange) -> None:
        """Audit what the joined blocks have committed."""
        events = (event for _, _, effects in change.connected for event in effects.events)
        committed = [
            (event.round, event.key)
            for event in events
            if isinstance(event, ContributionChanged) and event.status is ContributionStatus.COMMITTED
        ]
        if committed:
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._audit, committed))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Wait for the segment under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _audit(self, committed: Iterable[tuple[int, ContributionKey]]) -> None:
        context, view = self._chain.ledger_context, self._chain.view()
        state = get_task_state(context, view)
        for round_number, key in committed:
            contribution = view.get(contribution_key(context.task_id, round_number, key))
            if contribution is None or round_number != state.round:
                continue
            try:
                sidecar = self._chain.get_sidecar(contribution.sidecar_hash)
                segment = get_segment_context(contribution, state)
                is_honest = self._learning.is_segment_honest(context.task, segment, sidecar)
            except MathesisError as error:
                log.warning("segment could not be audited", miner=key.miner, index=key.index, error=str(error))
                continue
            self.audits.add("honest" if is_honest else "mismatch")
            if not is_honest:
                reason = "it is not what its seed gives"
                log.warning(
                    "segment will not settle", round=round_number, miner=key.miner, index=key.index, reason=reason
                )
