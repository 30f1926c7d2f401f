"""The door between the RPC and the node: all that a remote call may ask of it or hand over.

The node's core implements `NodeApi`; tests script it. Answers are records of the chain or plain frozen dataclasses; how
they look in JSON is the business of `node.rpc.views`. Reads answer at once, with None for what the node does not know;
submissions are awaited and raise the typed errors of `chain.errors`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from chain.block import Block
from chain.errors import MathesisError
from chain.genesis import Genesis
from chain.header import Header
from chain.ledger.economy_records import DatasetSketch
from chain.ledger.near_duplicates import Resemblance
from chain.ledger.records import Dispute, DisputeKey
from chain.primitives import Hash, PublicKey
from chain.state.view import StateKey, StateKind
from chain.ticket import Ticket, TicketOpening
from chain.transaction import Transaction
from consensus.flyclient import Demand
from consensus.header_proof import HeaderProof
from node.assignments import Assignment
from node.rpc.proofs import AccountProof, MinerProof
from node.rpc.submitted import AnswerSubmission, OpeningsSubmission, SegmentSubmission, TicketOutcome

HEADERS_MAX = 2_000
"""Headers one call may ask for."""

SENT_AT_ONCE_MAX = 1_000
"""Transactions one call may offer; the body's size bounds them too."""

HEIGHTS_MAX = 256
"""Single headers whose proof one call may ask for."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StateEntry(Generic[T]):
    """A record under the head's state root; it is None when the key is absent, as `proof` then shows."""

    header_hash: Hash
    height: int
    state_root: Hash
    key: bytes
    record: T | None
    proof: bytes


@dataclass(frozen=True, slots=True)
class StatePage(Generic[T]):
    """Records of one kind under the head's state root, each with the rest of its key.

    The next page starts at `next_path`, None at the end.
    """

    header_hash: Hash
    height: int
    state_root: Hash
    records: tuple[tuple[bytes, T], ...]
    next_path: Hash | None


@dataclass(frozen=True, slots=True)
class TransactionInfo:
    """A transaction and the block of the best chain that holds it; None while it waits in the pool."""

    transaction: Transaction
    block_hash: Hash | None
    height: int | None


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a round settled to: held-out loss in units of 2**-16 summed over `total` examples, and correct answers."""

    round: int
    height: int
    root: Hash
    heldout_loss: int
    correct: int
    total: int
    contributors: int


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task and its running round; `pot` in atoms, `price` in atoms for 2^40 verified MACs.

    `allowance` is what of the pot the round may spend, `segment_macs` what a segment is paid for. A posted task has a
    last height. One that has closed is not live, and its round does not move.
    """

    task: Hash
    name: str
    round: int
    start_height: int
    end_height: int
    pot: int
    price: int
    allowance: int
    segment_macs: int
    last_height: int | None
    is_live: bool
    checkpoint: CheckpointInfo


@dataclass(frozen=True, slots=True)
class ContributionInfo:
    """A contribution; `status` is the lower-case name of its state in the ledger's transition table."""

    round: int
    miner: PublicKey
    index: int
    status: str
    anchor_height: int
    commit_height: int
    trace_root: Hash
    delta_root: Hash
    sidecar_hash: Hash
    challenge: Hash | None
    deposit: int
    reward: int
    disputes: int


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A connected peer as the network sees it; its height is a claim.

    `kind` is what the connection is for, `origin` how the address was found, `latency_ms` None until it was measured.
    """

    key: PublicKey
    address: str
    listen_port: int
    is_inbound: bool
    kind: str
    origin: str
    height: int
    score: int
    received_bytes: int
    sent_bytes: int
    latency_ms: int | None
    connected_ms: int


@dataclass(frozen=True, slots=True)
class SupplyInfo:
    """Where every atom is; balances to burned add up to `issued + allocated`."""

    issued: int
    allocated: int
    balances: int
    deposits: int
    bonds: int
    stakes: int
    locked: int
    pot: int
    treasury: int
    income: int
    burned: int


@dataclass(frozen=True, slots=True)
class MinerRates:
    """What the node's miner last reported, a second."""

    tickets: int
    macs: int


@dataclass(frozen=True, slots=True)
class StatusInfo:
    """The node at a glance; `first_block` is the least height whose block it keeps."""

    version: str
    network: str
    node: PublicKey
    first_block: int
    is_syncing: bool
    peers: int
    pool_transactions: int
    pool_size_bytes: int
    uptime_ms: int
    supply: SupplyInfo
    rates: MinerRates | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """A height whose beacon may seed a segment of the running round."""

    height: int
    beacon: Hash


@dataclass(frozen=True, slots=True)
class DemandInfo:
    """What a challenger demands of a segment, where it started from, and the last block that may hold the answer."""

    key: DisputeKey
    seed: Hash
    dispute: Dispute


@dataclass(frozen=True, slots=True)
class PostedWork:
    """A posted task whose round runs, and the node's own contributions to it."""

    task: TaskInfo
    contributions: tuple[ContributionInfo, ...]


@dataclass(frozen=True, slots=True)
class MinerWork:
    """All that a miner needs to train and to look for tickets on the head.

    `target` is the next block's. `anchors` are those a new segment may take, newest last. `contributions` are the
    node's own of the running round of genesis' task, `posted` what else may be trained. `next_index` is the first free
    index, None when the round takes no more of them. `demands` are those that segments of the node's own have to
    answer, of this round or an earlier one. `obstacle` says why a segment that begins now would be refused, or is None.
    """

    parent: Header
    parent_hash: Hash
    target: int
    task: TaskInfo
    miner: PublicKey
    anchors: tuple[Anchor, ...]
    contributions: tuple[ContributionInfo, ...]
    next_index: int | None
    posted: tuple[PostedWork, ...]
    demands: tuple[DemandInfo, ...]
    obstacle: str | None


class NodeApi(Protocol):
    """A running node, as its RPC sees it."""

    def get_genesis(self) -> Genesis:
        """Return the network's genesis record."""
        ...

    def get_genesis_hash(self) -> Hash:
        """Return the hash of header 0."""
        ...

    def get_head(self) -> Header:
        """Return the header of the best chain's tip."""
        ...

    def get_headers(self, start_height: int, count: int) -> tuple[Header, ...]:
        """Return up to `count` headers of the best chain from `start_height` upwards."""
        ...

    def get_header(self, header_hash: Hash) -> Header | None:
        """Return a header of any branch."""
        ...

    async def prove_chain(self, tip_hash: Hash, demand: Demand) -> HeaderProof | None:
        """Return the compact proof of the chain under a header of any branch; raises InvalidProof."""
        ...

    async def prove_headers(self, tip_hash: Hash, heights: tuple[int, ...]) -> HeaderProof | None:
        """Return the proof of headers at ascending `heights` under a header of any branch; raises InvalidProof."""
        ...

    def get_hash_at_height(self, height: int) -> Hash | None:
        """Return the hash of the best chain's block at `height`."""
        ...

    def get_block(self, block_hash: Hash) -> Block | None:
        """Return a block of any branch; genesis has none."""
        ...

    def get_account_proof(self, account: PublicKey) -> AccountProof:
        """Return an account under the head's state root, with its proof."""
        ...

    def get_miner_proof(self, account: PublicKey) -> MinerProof:
        """Return a key's miner record under the head's state root, with its proof."""
        ...

    def get_state_entry(self, key: StateKey[T]) -> StateEntry[T]:
        """Return what stands under a key of the head's state, with its proof."""
        ...

    def find_resembling(self, sketch: DatasetSketch) -> Sequence[Resemblance]:
        """Return the data sets at the head whose sketches resemble one, as they were registered."""
        ...

    def list_state_records(self, kind: StateKind[T], first: Hash, count: int) -> StatePage[T]:
        """Return up to `count` records of a kind from the path `first` on; how much is looked at is bounded."""
        ...

    def get_transaction(self, transaction_hash: Hash) -> TransactionInfo | None:
        """Return a transaction of the best chain or the pool."""
        ...

    def get_task(self) -> TaskInfo:
        """Return the genesis task at the head."""
        ...

    def find_task(self, name: Hash) -> TaskInfo | None:
        """Return a task at the head, live or closed."""
        ...

    def list_tasks(self) -> tuple[TaskInfo, ...]:
        """Return the live tasks, that of genesis first."""
        ...

    def get_task_data(self, name: Hash) -> bytes | None:
        """Return the canonical bytes of the data set that a posted task trains on."""
        ...

    def get_checkpoint(self, round_number: int | None, task: Hash | None = None) -> CheckpointInfo | None:
        """Return the checkpoint that starts a round of a task, genesis' for None; the running round's for None."""
        ...

    def get_checkpoint_content(self, root: Hash, task: Hash | None = None) -> bytes | None:
        """Return the canonical bytes of a checkpoint of a task."""
        ...

    def get_contributions(self, round_number: int | None, task: Hash | None = None) -> tuple[ContributionInfo, ...]:
        """Return a round's contributions to a task in canonical order; the running round's for None."""
        ...

    def get_peers(self) -> tuple[PeerInfo, ...]:
        """Return the connected peers."""
        ...

    def get_status(self) -> StatusInfo:
        """Return the node at a glance."""
        ...

    def get_next_nonce(self, account: PublicKey) -> int:
        """Return the first nonce of `account` that neither the chain nor the pool has used."""
        ...

    async def send_transaction(self, transaction: bytes, sidecar: bytes | None = None) -> Hash:
        """Offer canonical bytes to the pool and announce them; raises DecodeError or InvalidTransaction."""
        ...

    async def send_transactions(self, transactions: tuple[bytes, ...]) -> tuple[Hash | MathesisError, ...]:
        """Offer canonical bytes to the pool together, in order; return each one's hash, or why it was refused."""
        ...

    def get_work(self) -> MinerWork:
        """Return what the miner should work on now."""
        ...

    async def submit_ticket(self, parent_hash: Hash, ticket: Ticket, opening: TicketOpening) -> TicketOutcome:
        """Assemble, sign and import a block on `parent_hash`; raises InvalidProof or InvalidBlock.

        A ticket for another parent than the head's is STALE.
        """
        ...

    async def submit_segment(self, segment: SegmentSubmission) -> Hash:
        """Sign and send a commit, its deposit locked; raises DecodeError or InvalidTransaction."""
        ...

    async def submit_openings(self, openings: OpeningsSubmission) -> Hash:
        """Sign and send openings; raises InvalidTransaction or InvalidProof."""
        ...

    async def submit_answer(self, answer: AnswerSubmission) -> Hash:
        """Sign and send an answer in a dispute; raises InvalidTransaction."""
        ...

    def get_disputes(self) -> tuple[tuple[DisputeKey, Dispute], ...]:
        """Return the open disputes by deadline."""
        ...

    def get_assignments(self) -> tuple[Assignment, ...]:
        """Return the audits that were assigned in the running round."""
        ...

    def report_rates(self, rates: MinerRates) -> None:
        """Keep what the miner measured, for `get_status`."""
        ...
