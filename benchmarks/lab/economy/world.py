"""A chain in memory whose segments are really trained, on the smallest task that holds a ticket.

Blocks are signed by nobody and their tickets are won by nobody: what is tried here is the ledger, and the ledger asks
neither. Training, openings, settlement and state are the node's own. It knows no history: whoever mines decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.lab.simulator.setting import make_key, make_setting
from chain.block import Block, compute_transactions_root
from chain.dispute import DemandDigests, DisputeContribution
from chain.errors import InvalidProof, MissingData
from chain.genesis import Allocation, Genesis, Parameters, compute_segment_seed
from chain.hashing import tagged_hash
from chain.header import Foliage, Header, Trunk, compute_beacon
from chain.ledger.apply import apply_block, execute_block, make_draft
from chain.ledger.context import BlockDraft, get_task_state, make_context
from chain.ledger.genesis_state import compute_genesis_beacon, make_genesis_state
from chain.ledger.keys import beacon_key, contribution_key, posted_task_key
from chain.ledger.records import ContributionKey, TaskState
from chain.ledger.tasks import Task, get_first_round, get_segment_context, get_state, get_task
from chain.packed import pack_block
from chain.primitives import ATOMS_PER_COIN, U256_MAX, ZERO_HASH, Hash, PublicKey, Signature
from chain.signature import SigningKey
from chain.state.tree import MemoryNodes
from chain.state.view import StateView
from chain.storage.blob_store import BlobStore
from chain.ticket import EMPTY_TICKET, Ticket, TicketOpening
from chain.transaction import (
    CommitContribution,
    ProveContribution,
    Sidecar,
    Transaction,
    compute_sidecar_hash,
)
from ml.backends import get_backend
from ml.segment import Runner
from node.learning import Learning
from node.miner.plan import SegmentPlan
from node.miner.sabotage import forge_delta
from node.miner.segment import TrainedSegment, open_segment, train_segment

PARAMETERS = Parameters(
    commit_blocks=1,
    challenge_delay=1,
    proof_window=1,
    audit_blocks=1,
    places_drawn=2,
    audit_bp=15_000,
    voting_blocks=6,
    enactment_blocks=2,
    quorum_bp=200,
    sidecars_per_block=5,
    evidence_blocks=8,
)
"""Rounds of four blocks: commits in the first, openings in the third, settlement in the fourth."""


CROWD_FUNDS = 24 * ATOMS_PER_COIN
CROWD = tuple(make_key("crowd", number) for number in range(64))
"""Keys that have little more than an auditor's bond: where they enter, no seat is left for others."""


class Broken(Exception):
    """Something that has to hold does not."""


@dataclass(frozen=True, slots=True)
class Tip:
    """Where the chain stands."""

    height: int
    root: Hash
    beacon: Hash


class Content:
    """Sidecars by hash."""

    def __init__(self) -> None:
        """Start with none."""
        self._sidecars: dict[Hash, Sidecar] = {}

    def add(self, sidecar: Sidecar) -> Hash:
        """Keep a sidecar and return its hash."""
        name = compute_sidecar_hash(sidecar)
        self._sidecars[name] = sidecar
        return name

    def get_sidecar(self, sidecar_hash: Hash) -> Sidecar:
        """Return a sidecar; raises MissingData."""
        if sidecar_hash not in self._sidecars:
            raise MissingData((sidecar_hash,))
        return self._sidecars[sidecar_hash]


class World:
    """One chain that grows, goes back, and is replayed."""

    def __init__(self, root: Path) -> None:
        """Start at genesis; checkpoints are kept under `root`."""
        setting = make_setting()
        crowd = tuple(Allocation(key.public_key, CROWD_FUNDS) for key in CROWD)
        allocations = (*setting.genesis.allocations, *crowd)
        self.genesis: Genesis = replace(
            setting.genesis, network="economy", parameters=PARAMETERS, allocations=allocations
        )
        self.context = make_context(self.genesis)
        self.task = setting.task
        self.content = Content()
        self.learning = self._make_learning(root)
        state_root, nodes = make_genesis_state(self.genesis)
        self.nodes = MemoryNodes(nodes)
        self.tips = [Tip(0, state_root, compute_genesis_beacon(self.context.chain_id))]
        self.blocks: list[Block] = []

    @property
    def tip(self) -> Tip:
        """Where the chain stands now."""
        return self.tips[-1]

    @property
    def view(self) -> StateView:
        """The state at the tip."""
        return StateView(self.tip.root, self.nodes)

    @property
    def round(self) -> TaskState:
        """The running round."""
        return get_task_state(self.context, self.view)

    @property
    def place(self) -> int:
        """Blocks of the running round that stand already."""
        return self.tip.height - self.round.start_height

    @property
    def network(self) -> Task:
        """Genesis' task."""
        return get_task(self.context, self.view, self.context.task_id)

    def find_task(self, name: Hash) -> Task:
        """Return a task that stands in the state."""
        return get_task(self.context, self.view, name)

    def is_posted(self, name: Hash) -> bool:
        """Say whether a name is that of a posted task."""
        return self.view.get(posted_task_key(name)) is not None

    def train(self, miner: PublicKey, task: Task, *, is_forged: bool = False) -> TrainedSegment:
        """Return the segment of a task that a miner trains in the running round, or one whose delta is forged."""
        state, loaded = get_state(self.view, task), self.learning.get_task(task.spec)
        beacon = self.view.get_existing(beacon_key(state.start_height)).beacon
        seed = compute_segment_seed(self.context.chain_id, task.name, state.round, beacon, miner, 0)
        checkpoint = self.learning.get_checkpoint(task.spec, state.checkpoint_root)
        task_round = state.round - get_first_round(self.context, task)
        runner = Runner(loaded.program, get_backend("cpu"), loaded.dataset, seed, checkpoint, task_round=task_round)
        segment = train_segment(runner, SegmentPlan(state.round, 0, state.start_height))
        return forge_delta(loaded.program, segment) if is_forged else segment

    def commit(self, segment: TrainedSegment, task: Task) -> CommitContribution:
        """Return the commit of a segment, its block data at hand."""
        plan, sidecar_hash = segment.plan, self.content.add(segment.sidecar)
        places = plan.round, plan.index, plan.anchor_height, segment.seed
        return CommitContribution(task.name, *places, segment.trace_root, segment.delta_root, sidecar_hash)

    def prove(self, miner: PublicKey, segment: TrainedSegment, task: Task) -> ProveContribution | None:
        """Return the openings that were drawn of a segment, or None when they show a forgery."""
        number = segment.plan.round
        key = contribution_key(task.name, number, ContributionKey(miner, 0))
        challenge = self.view.get_existing(key).challenge
        drawn = challenge, PARAMETERS.places_drawn
        openings = open_segment(self.learning.get_task(task.spec), get_backend("cpu"), segment, drawn)
        contribution, sidecar = self.view.get_existing(key), segment.sidecar
        context = get_segment_context(self.context, self.view, task, number, contribution)
        try:
            self.learning.verify_openings(task.spec, context, sidecar, challenge, openings)
        except InvalidProof:
            return None
        return ProveContribution(task.name, number, 0, openings)

    def dispute(self, miner: PublicKey, deposit: int) -> DisputeContribution:
        """Return the first demand of a challenger who knows that a segment's delta is forged."""
        leaf = self.task.program.steps - 1, self.task.program.delta_ops[0].index
        task, number = self.context.task_id, self.round.round
        named = self.view.get_existing(contribution_key(task, number, ContributionKey(miner, 0))).sidecar_hash
        return DisputeContribution(task, number, miner, 0, named, *leaf, DemandDigests(0), deposit)

    def make_ticket(self, segment: TrainedSegment | None) -> Ticket:
        """Return a ticket that came from a segment's first matmul, or from operands that nobody trained."""
        state = self.round
        ticket = replace(
            EMPTY_TICKET,
            task=self.context.task_id,
            round=state.round,
            anchor_height=state.start_height,
            digest=tagged_hash("economy.digest", self.tip.beacon, len(self.blocks).to_bytes(4, "big")),
        )
        if segment is None:
            return ticket
        place = segment.matmuls[0].place
        return replace(ticket, step=place.step, op=place.op, root_a=place.root_a, root_b=place.root_b)

    def execute(self, miner: SigningKey, ticket: Ticket, transactions: Sequence[Transaction]) -> Hash:
        """Return the state root after a block on the tip, which stays; raises InvalidBlock."""
        return self._execute(self._draft(miner, ticket), tuple(transactions))

    def mine(self, miner: SigningKey, ticket: Ticket, transactions: Sequence[Transaction]) -> None:
        """Append a block, validated as one that came from a stranger; raises InvalidBlock."""
        draft = self._draft(miner, ticket)
        root = self._execute(draft, tuple(transactions))
        block = _make_block(draft, tuple(transactions), root)
        effects = apply_block(self.context, self.view, pack_block(block), self.learning, self.content)
        self.nodes.add(effects.new_nodes)
        self.blocks.append(block)
        self.tips.append(Tip(draft.height, effects.state_root, draft.beacon))

    def go_back(self, blocks: int) -> None:
        """Leave the last blocks: what is mined next competes with them."""
        del self.blocks[-blocks:], self.tips[-blocks:]

    def replay(self, root: Path) -> None:
        """Execute all blocks from genesis on with nothing remembered; raises Broken when a root differs."""
        learning = self._make_learning(root)
        state_root, nodes = make_genesis_state(self.genesis)
        memory = MemoryNodes(nodes)
        for block, tip in zip(self.blocks, self.tips[1:], strict=True):
            view = StateView(state_root, memory)
            effects = apply_block(self.context, view, pack_block(block), learning, self.content)
            memory.add(effects.new_nodes)
            state_root = effects.state_root
            if state_root != tip.root:
                raise Broken(f"a replay gives another root at height {tip.height}")

    def _make_learning(self, root: Path) -> Learning:
        return Learning(self.task, get_backend("cpu"), BlobStore(root), PARAMETERS.places_drawn)

    def _draft(self, miner: SigningKey, ticket: Ticket) -> BlockDraft:
        height, beacon = self.tip.height + 1, compute_beacon(self.tip.beacon, ticket.digest)
        return BlockDraft(height, self.genesis.timestamp_ms + height, miner.public_key, ticket, beacon)

    def _execute(self, draft: BlockDraft, transactions: tuple[Transaction, ...]) -> Hash:
        effects = execute_block(self.context, self.view, draft, transactions, self.learning, self.content)
        return effects.state_root


def _make_block(draft: BlockDraft, transactions: tuple[Transaction, ...], state_root: Hash) -> Block:
    foliage = Foliage(
        version=1,
        height=draft.height,
        parent_hash=ZERO_HASH,
        timestamp_ms=draft.timestamp_ms,
        target=U256_MAX,
        miner=draft.miner,
        state_root=state_root,
        transactions_root=compute_transactions_root(transactions),
        trunk_hash=ZERO_HASH,
        history_root=ZERO_HASH,
    )
    header = Header(Trunk(draft.ticket, draft.beacon, draft.height), foliage, Signature(bytes(64)))
    block = Block(header, TicketOpening((), ()), transactions)
    assert make_draft(block) == draft
    return block
