"""What the node answers to its RPC about the chain: reads of the head's branch, its state and the pool.

The half of `node.rpc.api.NodeApi` that changes nothing. It knows no JSON.
"""

import asyncio
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import TypeVar

from chain.block import Block
from chain.codec import encode
from chain.errors import InvalidProof, InvalidTransaction
from chain.genesis import Genesis
from chain.header import Header
from chain.ledger.accounts import get_account
from chain.ledger.economy_records import DatasetSketch
from chain.ledger.keys import (
    SUPPLY_KEY,
    account_key,
    checkpoint_key,
    contribution_key,
    funding_key,
    miner_key,
    round_contributions_key,
)
from chain.ledger.near_duplicates import Resemblance, find_resembling
from chain.ledger.records import Contribution, ContributionKey, Dispute, DisputeKey
from chain.ledger.supply import compute_holdings
from chain.ledger.tasks import Task, compute_allowance, get_first_round, get_state, get_task, iter_live_tasks
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.state.view import StateKey, StateKind, StateView
from consensus.flyclient import Demand, prove_chain
from consensus.header_proof import HeaderProof, prove_headers
from ml.checkpoint import encode_checkpoint
from node.assignments import Assignment, iter_assignments
from node.disputes import get_contribution, iter_disputes
from node.parts import Parts
from node.rpc.api import (
    CheckpointInfo,
    ContributionInfo,
    DemandInfo,
    MinerRates,
    PeerInfo,
    StateEntry,
    StatePage,
    StatusInfo,
    SupplyInfo,
    TaskInfo,
    TransactionInfo,
)
from node.rpc.proofs import AccountProof, MinerProof
from node.state_pages import read_page

T = TypeVar("T")

ReadBlob = Callable[[Hash], bytes | None]
"""Returns the canonical bytes of a checkpoint or data set by its root."""


class NodeQueries:
    """Reads of the head's branch."""

    def __init__(self, parts: Parts, get_peers: Callable[[], tuple[PeerInfo, ...]], read_blob: ReadBlob) -> None:
        """Answer from the parts, the network's peers and the blobs that learning keeps."""
        self._parts = parts
        self._chain = parts.chain
        self._read_peers = get_peers
        self._read_blob = read_blob
        self._started_ms = parts.get_time_ms()
        self._rates: MinerRates | None = None
        self._supply: tuple[Hash, SupplyInfo] | None = None

    def get_genesis(self) -> Genesis:
        """Return the network's genesis record."""
        return self._chain.header_context.genesis

    def get_genesis_hash(self) -> Hash:
        """Return the hash of header 0."""
        return self._chain.headers.genesis.hash

    def get_head(self) -> Header:
        """Return the header of the head."""
        return self._chain.head.header

    def get_headers(self, start_height: int, count: int) -> tuple[Header, ...]:
        """Return headers of the head's branch from a height upwards."""
        head = self._chain.head
        heights = range(start_height, min(head.height + 1, start_height + count))
        return tuple(head.get_ancestor(height).header for height in heights)

    def get_header(self, header_hash: Hash) -> Header | None:
        """Return a header of any branch."""
        entry = self._chain.headers.get(header_hash)
        return None if entry is None else entry.header

    async def prove_chain(self, tip_hash: Hash, demand: Demand) -> HeaderProof | None:
        """Return the compact proof of the chain under a header of any branch; raises InvalidProof."""
        tip = self._chain.headers.get(tip_hash)
        # Entries never change, so a thread may walk them while the chain grows.
        return None if tip is None else await asyncio.to_thread(prove_chain, self._chain.header_context, tip, demand)

    async def prove_headers(self, tip_hash: Hash, heights: tuple[int, ...]) -> HeaderProof | None:
        """Return the proof of headers at ascending `heights` under a header of any branch; raises InvalidProof."""
        tip = self._chain.headers.get(tip_hash)
        if tip is None:
            return None
        for before, height in pairwise((0, *heights)):
            if not before < height < tip.height:
                raise InvalidProof("proof-height", f"found {height} after {before}, expected more, below {tip.height}")
        return await asyncio.to_thread(prove_headers, tip, heights)

    def get_hash_at_height(self, height: int) -> Hash | None:
        """Return the hash of the head's branch at a height."""
        head = self._chain.head
        return head.get_ancestor(height).hash if 0 <= height <= head.height else None

    def get_block(self, block_hash: Hash) -> Block | None:
        """Return a block of any branch."""
        return self._chain.store.get_block(block_hash)

    def get_account_proof(self, account: PublicKey) -> AccountProof:
        """Return an account under the head's state root, with its proof."""
        head, key = self._chain.head, account_key(account)
        view = self._chain.view(head)
        record, found = view.get(key), get_account(view, account)
        return AccountProof(
            account=account,
            header_hash=head.hash,
            height=head.height,
            state_root=view.root,
            key=key.name,
            value=None if record is None else encode(record),
            proof=encode(view.prove(key)),
            nonce=found.nonce,
            balance=found.balance,
        )

    def get_miner_proof(self, account: PublicKey) -> MinerProof:
        """Return a key's miner record under the head's state root, with its proof."""
        head, key = self._chain.head, miner_key(account)
        view = self._chain.view(head)
        proof = encode(view.prove(key))
        return MinerProof(account, head.hash, head.height, view.root, key.name, view.get(key), proof)

    def get_state_entry(self, key: StateKey[T]) -> StateEntry[T]:
        """Return what stands under a key of the head's state, with its proof."""
        head = self._chain.head
        view = self._chain.view(head)
        return StateEntry(head.hash, head.height, view.root, key.name, view.get(key), encode(view.prove(key)))

    def find_resembling(self, sketch: DatasetSketch) -> Sequence[Resemblance]:
        """Return the data sets at the head whose sketches resemble one, as they were registered."""
        return find_resembling(self._chain.view(), sketch.minima)

    def list_state_records(self, kind: StateKind[T], first: Hash, count: int) -> StatePage[T]:
        """Return up to `count` records of a kind from the path `first` on, at the head."""
        return read_page(self._chain.view(), self._chain.head, kind, first, count)

    def get_transaction(self, transaction_hash: Hash) -> TransactionInfo | None:
        """Return a transaction of the head's branch, or one that waits for a block or a later head."""
        waiting = self._parts.gate.get_waiting(transaction_hash)
        if waiting is not None:
            return TransactionInfo(waiting.transaction, None, None)
        found = self._chain.get_transaction(transaction_hash)
        if found is None:
            return None
        transaction, block = found
        height = block.header.height
        return TransactionInfo(transaction, self._chain.head.get_ancestor(height).hash, height)

    def get_task(self) -> TaskInfo:
        """Return genesis' task at the head."""
        context, view = self._chain.ledger_context, self._chain.view()
        return self._describe_task(view, get_task(context, view, context.task_id))

    def find_task(self, name: Hash) -> TaskInfo | None:
        """Return a task at the head, live or closed."""
        view = self._chain.view()
        task = self._find_task(view, name)
        return None if task is None else self._describe_task(view, task)

    def list_tasks(self) -> tuple[TaskInfo, ...]:
        """Return the live tasks, that of genesis first."""
        view = self._chain.view()
        return tuple(self._describe_task(view, task) for task in iter_live_tasks(self._chain.ledger_context, view))

    def get_task_data(self, name: Hash) -> bytes | None:
        """Return the canonical bytes of the data set that a posted task trains on."""
        task = self._find_task(self._chain.view(), name)
        return None if task is None or task.posted is None else self._read_blob(task.posted.dataset_root)

    def _find_task(self, view: StateView, name: Hash | None) -> Task | None:
        context = self._chain.ledger_context
        try:
            return get_task(context, view, context.task_id if name is None else name)
        except InvalidTransaction:
            return None

    def _describe_task(self, view: StateView, task: Task) -> TaskInfo:
        state, parameters = get_state(view, task), self._chain.parameters
        checkpoint = self.get_checkpoint(state.round, task.name)
        assert checkpoint is not None
        return TaskInfo(
            task=task.name,
            name=task.spec.name,
            round=state.round,
            start_height=state.start_height,
            end_height=state.start_height + parameters.round_blocks,
            pot=state.pot,
            price=state.price,
            allowance=compute_allowance(parameters, task, state),
            segment_macs=self._parts.learning.compute_segment_macs(task.spec),
            last_height=None if task.posted is None else task.posted.terms.last_height,
            is_live=task.posted is None or view.get(funding_key(task.name)) is not None,
            checkpoint=checkpoint,
        )

    def get_checkpoint(self, round_number: int | None, task: Hash | None = None) -> CheckpointInfo | None:
        """Return the checkpoint that a round of a task starts from."""
        view = self._chain.view()
        found = self._find_task(view, task)
        if found is None:
            return None
        running = get_state(view, found).round
        number = running if round_number is None else round_number
        if number == get_first_round(self._chain.ledger_context, found):
            return CheckpointInfo(number, 0, found.spec.checkpoint_root, 0, 0, 0, 0)
        record = view.get(checkpoint_key(found.name, number - 1)) if number <= running else None
        if record is None:
            return None
        return CheckpointInfo(
            round=number,
            height=record.height,
            root=record.checkpoint_root,
            heldout_loss=record.heldout_loss,
            correct=record.heldout_correct,
            total=record.heldout_total,
            contributors=record.contributors,
        )

    def get_checkpoint_content(self, root: Hash, task: Hash | None = None) -> bytes | None:
        """Return the canonical bytes of a checkpoint of a task."""
        data, found = self._read_blob(root), self._find_task(self._chain.view(), task)
        if data is None and found is not None and root == found.spec.checkpoint_root:
            # A posted task's first checkpoint is computed by whoever needs it first.
            data = encode_checkpoint(self._parts.learning.keep_first_checkpoint(found.spec))
        return data

    def get_contributions(self, round_number: int | None, task: Hash | None = None) -> tuple[ContributionInfo, ...]:
        """Return a round's contributions to a task by miner and index."""
        view = self._chain.view()
        found = self._find_task(view, task)
        if found is None:
            return ()
        state = get_state(view, found)
        number = state.round if round_number is None else round_number
        ended = view.get(round_contributions_key(found.name, number)) if number < state.round else None
        keys = state.contributions if number == state.round else () if ended is None else ended.keys
        records = ((key, view.get_existing(contribution_key(found.name, number, key))) for key in keys)
        return tuple(_describe_contribution(number, key, record) for key, record in records)

    def get_disputes(self) -> tuple[tuple[DisputeKey, Dispute], ...]:
        """Return the open disputes by deadline."""
        return tuple(iter_disputes(self._chain.ledger_context, self._chain.view()))

    def get_assignments(self) -> tuple[Assignment, ...]:
        """Return the audits that were assigned in the running round."""
        return tuple(iter_assignments(self._chain.ledger_context, self._chain.view()))

    def get_demands(self, miner: PublicKey) -> tuple[DemandInfo, ...]:
        """Return what challengers demand of segments of `miner` and have not been answered."""
        context, view = self._chain.ledger_context, self._chain.view()
        return tuple(
            DemandInfo(key, get_contribution(view, key).seed, dispute)
            for key, dispute in iter_disputes(context, view)
            if key.miner == miner and not dispute.is_answered
        )

    def get_peers(self) -> tuple[PeerInfo, ...]:
        """Return the connected peers."""
        return self._read_peers()

    @property
    def rates(self) -> MinerRates | None:
        """What the node's miner reported last."""
        return self._rates

    def is_syncing(self) -> bool:
        """Say whether heavier headers are known than blocks."""
        return self._chain.get_heaviest_header().total_work > self._chain.head.total_work

    def get_status(self) -> StatusInfo:
        """Return the node at a glance."""
        chain, mempool = self._chain, self._parts.mempool
        return StatusInfo(
            version=version("mathesis"),
            network=chain.header_context.genesis.network,
            node=self._parts.key.public_key,
            first_block=chain.base.height + 1,
            is_syncing=self.is_syncing(),
            peers=len(self._read_peers()),
            pool_transactions=len(mempool),
            pool_size_bytes=mempool.size_bytes,
            uptime_ms=self._parts.get_time_ms() - self._started_ms,
            supply=self._compute_supply(),
            rates=self._rates,
        )

    def get_next_nonce(self, account: PublicKey) -> int:
        """Return the first nonce that neither the head nor the pool has used."""
        return self._parts.gate.compute_next_nonce(account)

    def report_rates(self, rates: MinerRates) -> None:
        """Keep what the miner measured."""
        self._rates = rates

    def _compute_supply(self) -> SupplyInfo:
        view = self._chain.view()
        if self._supply is None or self._supply[0] != view.root:
            holdings, supply = compute_holdings(view), view.get_existing(SUPPLY_KEY)
            info = SupplyInfo(
                issued=supply.issued,
                allocated=supply.allocated,
                balances=holdings.balances,
                deposits=holdings.deposits,
                bonds=holdings.bonds,
                stakes=holdings.stakes,
                locked=holdings.locked,
                pot=holdings.pot,
                treasury=holdings.treasury,
                income=holdings.income,
                burned=holdings.burned,
            )
            self._supply = (view.root, info)
        return self._supply[1]


def _describe_contribution(round_number: int, key: ContributionKey, record: Contribution) -> ContributionInfo:
    return ContributionInfo(
        round=round_number,
        miner=key.miner,
        index=key.index,
        status=record.status.name.lower(),
        anchor_height=record.anchor_height,
        commit_height=record.commit_height,
        trace_root=record.trace_root,
        delta_root=record.delta_root,
        sidecar_hash=record.sidecar_hash,
        challenge=None if record.challenge == ZERO_HASH else record.challenge,
        deposit=record.deposit,
        reward=record.reward,
        disputes=record.disputes,
    )
