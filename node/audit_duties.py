"""What an auditor's key owes: a proof of every segment assigned to it, and answers for those that it has vouched for.

Both are read from the head's state each time, so neither a restart nor another branch loses one; a proof that was sent
is remembered with the challenge it answers, which another branch draws anew. Whether a segment is honest is found out
by executing it; one that is not is the auditor's to dispute, and is never vouched for.
"""

import asyncio

from chain.audit import ProveAudit
from chain.dispute import AnswerDispute
from chain.errors import MathesisError
from chain.ledger.audits import AUDITABLE, compute_audit_challenge
from chain.ledger.learning import Leaf, SegmentContext
from chain.ledger.records import Contribution, ContributionKey, Dispute, DisputeKey
from chain.ledger.tasks import Task, get_segment_context, get_task
from chain.primitives import Hash, PublicKey
from chain.transaction import Action
from node.assignments import Assignment, has_vouched, iter_assignments
from node.chain import Chain
from node.disputes import get_contribution, iter_disputes
from node.learning import Learning
from node.observability.journal import get_log
from node.observability.tally import Tally
from node.sender import Sender

log = get_log("auditor")


class AuditDuties:
    """Sends what an auditor's key owes."""

    def __init__(self, chain: Chain, learning: Learning, sender: Sender, key: PublicKey) -> None:
        """Read the head's branch of `chain`, and act as `key`, for whom `sender` signs."""
        self._chain = chain
        self._learning = learning
        self._sender = sender
        self._key = key
        self._proofs: dict[Hash, Hash] = {}
        """By the challenge of an audit: the transaction with its proof."""
        self._answers: dict[tuple[DisputeKey, Leaf, str], Hash] = {}
        """By dispute, op and kind of demand: the transaction with the answer."""
        self.counts = Tally(("proven", "answered"))

    async def follow(self) -> None:
        """Send each proof and answer that is owed now and was not sent."""
        self._forget()
        for assignment in tuple(iter_assignments(self._chain.ledger_context, self._chain.view())):
            is_open = assignment.contribution.status in AUDITABLE and not assignment.is_proven
            if assignment.auditor == self._key and is_open:
                await self._prove(assignment)
        for key, dispute in tuple(iter_disputes(self._chain.ledger_context, self._chain.view())):
            if not dispute.is_answered and self._has_vouched(key):
                await self._answer(key, dispute)

    def _forget(self) -> None:
        self._proofs = {name: sent for name, sent in self._proofs.items() if self._sender.is_waiting(sent)}
        self._answers = {name: sent for name, sent in self._answers.items() if self._sender.is_waiting(sent)}

    def _has_vouched(self, key: DisputeKey) -> bool:
        # It does not wait for the miner's answer: of one block less, a producer would keep an answer out more often.
        return has_vouched(self._chain.view(), key, self._key)

    async def _prove(self, assignment: Assignment) -> None:
        contribution, key = assignment.contribution, assignment.key
        challenge = compute_audit_challenge(contribution.challenge, self._key)
        if challenge in self._proofs:
            return
        task, drawn = assignment.task, contribution.challenge
        segment = self._get_segment(task, assignment.round, contribution)
        try:
            if not await self._is_honest(task, segment, contribution):
                return
            digests = await asyncio.to_thread(self._learning.prove_audit, task.spec, segment, challenge)
            action = ProveAudit(task.name, assignment.round, key.miner, key.index, drawn, digests)
            self._proofs[challenge] = await self._send(action, assignment.round, key)
        except MathesisError as error:
            self._warn("audit cannot be proven", assignment.round, key, error)
            return
        self.counts.add("proven")

    async def _answer(self, key: DisputeKey, dispute: Dispute) -> None:
        context, view = self._chain.ledger_context, self._chain.view()
        leaf = Leaf(dispute.step, dispute.op)
        name = (key, leaf, type(dispute.demand).__name__)
        if name in self._answers:
            return
        task, contribution = get_task(context, view, key.task), get_contribution(view, key)
        segment, named = self._get_segment(task, key.round, contribution), ContributionKey(key.miner, key.index)
        try:
            if not await self._is_honest(task, segment, contribution):
                return
            answer = await asyncio.to_thread(self._learning.make_answer, task.spec, segment, (leaf, dispute.demand))
            action = AnswerDispute(task.name, key.round, key.miner, key.index, key.challenger, answer)
            self._answers[name] = await self._send(action, key.round, named)
        except MathesisError as error:
            self._warn("demand cannot be answered", key.round, named, error)
            return
        self.counts.add("answered")

    async def _is_honest(self, task: Task, segment: SegmentContext, contribution: Contribution) -> bool:
        sidecar = self._chain.get_sidecar(contribution.sidecar_hash)
        return await asyncio.to_thread(self._learning.is_segment_honest, task.spec, segment, sidecar)

    def _get_segment(self, task: Task, round_number: int, contribution: Contribution) -> SegmentContext:
        return get_segment_context(self._chain.ledger_context, self._chain.view(), task, round_number, contribution)

    async def _send(self, action: Action, round_number: int, key: ContributionKey) -> Hash:
        sent = await self._sender.send(action)
        log.info(type(action).__name__, round=round_number, miner=key.miner, index=key.index)
        return sent

    def _warn(self, what: str, round_number: int, key: ContributionKey, error: MathesisError) -> None:
        log.warning(what, round=round_number, miner=key.miner, index=key.index, error=str(error))
