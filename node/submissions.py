"""What a remote caller may hand to the node: transactions from anybody, and its own miner's work.

The half of `node.rpc.api.NodeApi` that changes something. The node signs for its miner; everything goes through the
gate and the importer like what strangers send.
"""

from collections.abc import Iterator

from chain.codec import decode
from chain.dispute import AnswerDispute
from chain.errors import DecodeError, InvalidBlock, InvalidTransaction, MathesisError
from chain.ledger.bounds import get_context_in_force
from chain.ledger.contributions import find_segment_problem
from chain.ledger.records import ContributionKey
from chain.packed import PackedTransaction, decode_transaction
from chain.primitives import Hash
from chain.ticket import Ticket, TicketOpening
from chain.transaction import (
    TRANSACTION_BYTES_MAX,
    CommitContribution,
    ProveContribution,
    Sidecar,
    Transaction,
    compute_sidecar_hash,
    compute_transaction_hash,
)
from consensus.header_rules import compute_next_target
from node.chain import SIDECAR_ENCODED_BYTES_MAX
from node.gate import Answer, Offer
from node.mempool import AddResult
from node.outcomes import ImportResult
from node.parts import Parts
from node.producer import Producer
from node.queries import NodeQueries
from node.rpc.api import Anchor, ContributionInfo, MinerWork, PostedWork, TaskInfo
from node.rpc.submitted import AnswerSubmission, OpeningsSubmission, SegmentSubmission, TicketOutcome

KEPT = "this node keeps it, and tries it again with the next blocks"


class NodeSubmissions:
    """Takes transactions, tickets, segments and openings."""

    def __init__(self, parts: Parts, queries: NodeQueries) -> None:
        """Hand things on to the parts."""
        self._parts = parts
        self._queries = queries
        self._producer = Producer(parts)

    async def send_transaction(self, transaction: bytes, sidecar: bytes | None = None) -> Hash:
        """Offer canonical bytes to the pool, with the block data that they name.

        Raises DecodeError, InvalidTransaction, MissingData; a refusal says if it is kept all the same.
        """
        decoded = decode(Transaction, transaction, TRANSACTION_BYTES_MAX)
        beside = None if sidecar is None else decode(Sidecar, sidecar, SIDECAR_ENCODED_BYTES_MAX)
        name = compute_transaction_hash(decoded)
        try:
            await self._parts.gate.admit(decoded, beside)
        except InvalidTransaction as error:
            if not self._parts.gate.is_waiting(name):
                raise
            # Whoever sent it and sends another one may have both carried out.
            raise InvalidTransaction(error.rule, f"{error.message}; {KEPT}") from error
        return name

    async def send_transactions(self, transactions: tuple[bytes, ...]) -> tuple[Hash | MathesisError, ...]:
        """Offer canonical bytes to the pool together; return each one's hash, or why it was refused."""
        packed = [_decode(data) for data in transactions]
        offers = [Offer(each) for each in packed if isinstance(each, PackedTransaction)]
        answers = iter(await self._parts.gate.admit_many(offers))
        return tuple(_name(each, answers) for each in packed)

    def get_work(self) -> MinerWork:
        """Return what the miner should work on now."""
        chain, queries, key = self._parts.chain, self._queries, self._parts.key.public_key
        head, task = chain.head, queries.get_task()
        oldest, newest = max(task.start_height - 1, 0), max(head.height - 1, 0)
        own = self._list_own(task)
        free = sorted(set(range(chain.parameters.segments_per_round)) - {info.index for info in own})
        return MinerWork(
            parent=head.header,
            parent_hash=head.hash,
            target=compute_next_target(chain.header_context, head),
            task=task,
            miner=key,
            anchors=tuple(Anchor(height, head.get_ancestor(height).beacon) for height in range(oldest, newest + 1)),
            contributions=own,
            next_index=free[0] if free else None,
            posted=tuple(
                PostedWork(posted, self._list_own(posted))
                for posted in queries.list_tasks()[1:]
                if posted.round == task.round
                and (posted.last_height is None or posted.start_height < posted.last_height)
            ),
            demands=queries.get_demands(key),
            obstacle=self._find_obstacle(newest),
        )

    def _find_obstacle(self, anchor_height: int) -> str | None:
        """Return why a segment that takes the newest anchor would be refused in the next block, or None."""
        chain, key = self._parts.chain, ContributionKey(self._parts.key.public_key, 0)
        view = chain.view()
        context = get_context_in_force(chain.ledger_context, view)
        problem = find_segment_problem(context, view, chain.head.height + 1, key, anchor_height)
        return None if problem is None else ": ".join(problem)

    def _list_own(self, task: TaskInfo) -> tuple[ContributionInfo, ...]:
        """Return the node's own contributions to the running round of a task."""
        key = self._parts.key.public_key
        return tuple(info for info in self._queries.get_contributions(task.round, task.task) if info.miner == key)

    async def submit_ticket(self, parent_hash: Hash, ticket: Ticket, opening: TicketOpening) -> TicketOutcome:
        """Make a block of a winning ticket; raises InvalidProof, InvalidBlock."""
        outcome = await self._producer.produce(parent_hash, ticket, opening)
        if outcome is None or outcome.result is ImportResult.ALREADY_KNOWN:
            return TicketOutcome.STALE
        if outcome.result in {ImportResult.EXTENDED, ImportResult.REORGED}:
            return TicketOutcome.EXTENDED
        if outcome.result is ImportResult.INVALID:
            raise InvalidBlock(outcome.rule, outcome.message)
        return TicketOutcome.STALE

    async def submit_segment(self, segment: SegmentSubmission) -> Hash:
        """Sign and send a commit; raises DecodeError, InvalidTransaction."""
        sidecar = decode(Sidecar, segment.sidecar, SIDECAR_ENCODED_BYTES_MAX)
        commit = CommitContribution(
            task=segment.task,
            round=segment.round,
            index=segment.index,
            anchor_height=segment.anchor_height,
            seed=segment.seed,
            trace_root=segment.trace_root,
            delta_root=segment.delta_root,
            sidecar_hash=compute_sidecar_hash(sidecar),
        )
        return await self._parts.sender.send(commit, sidecar)

    async def submit_openings(self, openings: OpeningsSubmission) -> Hash:
        """Sign and send openings; raises InvalidTransaction."""
        return await self._parts.sender.send(
            ProveContribution(openings.task, openings.round, openings.index, openings.openings)
        )

    async def submit_answer(self, answer: AnswerSubmission) -> Hash:
        """Sign and send what a challenger demanded; raises InvalidTransaction."""
        miner = self._parts.key.public_key
        action = AnswerDispute(answer.task, answer.round, miner, answer.index, answer.challenger, answer.answer)
        return await self._parts.sender.send(action)


def _decode(data: bytes) -> PackedTransaction | DecodeError:
    try:
        return decode_transaction(data)
    except DecodeError as error:
        return error


def _name(offered: PackedTransaction | DecodeError, answers: Iterator[Answer]) -> Hash | MathesisError:
    """Return the hash of what was taken, or the error; the next of `answers` is about what could be decoded."""
    if isinstance(offered, DecodeError):
        return offered
    answer = next(answers)
    return offered.hash if isinstance(answer, AddResult) else answer
