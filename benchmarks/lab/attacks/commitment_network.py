"""A network in one process: the real ledger over the real engine, with blocks that nobody had to mine.

It plays what miners send and what blocks hold. Headers and work are left out: no attack that is run here depends on
them. Segments are those of the workbench, so that forged ones can be committed too.
"""

from dataclasses import dataclass, field, replace

from benchmarks.lab.attacks.trajectory_bench import Bench, Cheat, Segment, compute_honestly, get_bench, make_segment
from benchmarks.lab.attacks.trajectory_odds import answer_challenge
from chain.errors import MissingData
from chain.genesis import Allocation, Genesis, Parameters, compute_segment_seed
from chain.hashing import tagged_hash
from chain.header import compute_beacon
from chain.ledger.accounts import get_account
from chain.ledger.apply import execute_block
from chain.ledger.context import BlockDraft, BlockEffects, LedgerContext, get_task_state, make_context
from chain.ledger.genesis_state import compute_genesis_beacon, make_genesis_state
from chain.ledger.keys import beacon_key, contribution_key
from chain.ledger.records import Contribution, ContributionKey, TaskState
from chain.ledger.supply import compute_holdings
from chain.ledger.transactions import verify_signatures
from chain.packed import pack_transactions
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.state.tree import MemoryNodes
from chain.state.view import StateView
from chain.ticket import EMPTY_TICKET, Ticket
from chain.transaction import (
    Action,
    CommitContribution,
    ProveContribution,
    Sidecar,
    Transaction,
    TransactionBody,
    compute_sidecar_hash,
    compute_signing_hash,
)
from ml.trace import compute_delta_root, compute_operand_roots, compute_trace_root

ALICE, BOB, STRANGER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
"""Alice and Bob are miners; the stranger is not."""

TICKET_STEP, TICKET_OP = 3, 9


@dataclass(slots=True)
class Content:
    """Block data at hand, by hash."""

    sidecars: dict[Hash, Sidecar] = field(default_factory=dict)

    def add(self, sidecar: Sidecar) -> Hash:
        """Keep a sidecar and return its name."""
        self.sidecars[compute_sidecar_hash(sidecar)] = sidecar
        return compute_sidecar_hash(sidecar)

    def get_sidecar(self, sidecar_hash: Hash) -> Sidecar:
        """Return a sidecar; raises MissingData."""
        if sidecar_hash not in self.sidecars:
            raise MissingData((sidecar_hash,))
        return self.sidecars[sidecar_hash]


def make_genesis(parameters: Parameters | None = None, network: str = "attacks") -> Genesis:
    """Return the genesis of a network whose task is the workbench's."""
    accounts = tuple(Allocation(key.public_key, 1_000 * ATOMS_PER_COIN) for key in (ALICE, BOB, STRANGER))
    miners = (ALICE.public_key, BOB.public_key)
    return Genesis(network, 1_700_000_000_000, 2**255, parameters or Parameters(), accounts, miners, get_bench().spec)


class Network:
    """A chain that grows block by block; no atom is made or lost on the way."""

    def __init__(self, genesis: Genesis | None = None) -> None:
        """Start from `genesis`."""
        self.genesis = genesis or make_genesis()
        self.context: LedgerContext = make_context(self.genesis)
        self.bench: Bench = get_bench()
        self.root, nodes = make_genesis_state(self.genesis)
        self.nodes = MemoryNodes(nodes)
        self.height = 0
        self.beacon = compute_genesis_beacon(self.context.chain_id)
        self.content = Content()

    @property
    def view(self) -> StateView:
        """The head's state."""
        return StateView(self.root, self.nodes)

    @property
    def task(self) -> TaskState:
        """Where the task stands."""
        return get_task_state(self.context, self.view)

    def get_balance(self, key: SigningKey) -> int:
        """Return what an account may spend, in atoms."""
        return get_account(self.view, key.public_key).balance

    def get_contribution(self, key: SigningKey, index: int = 0, round_number: int = 0) -> Contribution:
        """Return a contribution of any round."""
        name = ContributionKey(key.public_key, index)
        return self.view.get_existing(contribution_key(self.context.task_id, round_number, name))

    def compute_seed(self, key: SigningKey, index: int = 0, anchor: int = 0) -> Hash:
        """Return the seed of a segment of the running round."""
        beacon = self.view.get_existing(beacon_key(anchor)).beacon
        names = self.context.chain_id, self.context.task_id
        return compute_segment_seed(*names, self.task.round, beacon, key.public_key, index)

    def train(self, key: SigningKey, cheat: Cheat = compute_honestly, index: int = 0, anchor: int = 0) -> Segment:
        """Return a segment of the running round, honest or not."""
        return make_segment(self.bench.make_runner(self.compute_seed(key, index, anchor)), cheat)

    def make_commit(self, segment: Segment, index: int = 0, anchor: int = 0) -> CommitContribution:
        """Return the commit of a segment, and keep its sidecar."""
        roots = (
            compute_trace_root(segment.trace),
            compute_delta_root(self.bench.task.program, segment.sidecar.output_roots),
        )
        names = Hash(segment.runner.segment_seed), *roots, self.content.add(segment.sidecar)
        return CommitContribution(self.context.task_id, self.task.round, index, anchor, *names)

    def make_proof(self, key: SigningKey, segment: Segment, index: int = 0) -> ProveContribution:
        """Return the openings that a miner has for its challenge."""
        challenge = self.get_contribution(key, index).challenge
        return ProveContribution(self.context.task_id, self.task.round, index, answer_challenge(segment, challenge))

    def sign(self, key: SigningKey, action: Action, fee: int = 0, after: int = 0) -> Transaction:
        """Return a transaction, `after` others of this sender in the same block."""
        nonce = get_account(self.view, key.public_key).nonce + after
        body = TransactionBody(key.public_key, nonce, fee, action)
        return Transaction(body, key.sign(compute_signing_hash(self.context.chain_id, body)))

    def make_draft(self, miner: SigningKey = ALICE, ticket: Ticket | None = None, delay_ms: int = 0) -> BlockDraft:
        """Return the draft of the next block."""
        digest = tagged_hash("ticket", self.beacon)
        mined = replace(
            ticket or EMPTY_TICKET, task=self.context.task_id, round=self.task.round, digest=digest,
            anchor_height=ticket.anchor_height if ticket else self.task.start_height,
        )  # fmt: skip
        beacon = compute_beacon(self.beacon, digest)
        timestamp_ms = 1_700_000_000_000 + self.height + delay_ms
        return BlockDraft(self.height + 1, timestamp_ms, miner.public_key, mined, beacon)

    def make_ticket(self, segment: Segment, index: int = 0) -> Ticket:
        """Return a ticket over operands of a segment anchored at genesis."""
        roots = compute_operand_roots(self.bench.task.program, segment.sidecar.output_roots, TICKET_STEP, TICKET_OP)
        return replace(EMPTY_TICKET, index=index, step=TICKET_STEP, op=TICKET_OP, root_a=roots[0], root_b=roots[1])

    def execute(self, draft: BlockDraft, *transactions: Transaction) -> BlockEffects:
        """Return what a block does; raises InvalidBlock, InvalidTransaction, MissingData."""
        verify_signatures(self.context.chain_id, pack_transactions(transactions))
        return execute_block(self.context, self.view, draft, transactions, self.bench.learning, self.content)

    def mine(self, *transactions: Transaction, draft: BlockDraft | None = None) -> BlockEffects:
        """Append a block."""
        draft = draft or self.make_draft()
        effects = self.execute(draft, *transactions)
        self.nodes.add(effects.new_nodes)
        self.root, self.height, self.beacon = effects.state_root, draft.height, draft.beacon
        assert compute_holdings(self.view).is_conserved
        return effects

    def mine_to(self, height: int) -> None:
        """Append empty blocks up to `height`."""
        while self.height < height:
            self.mine()
