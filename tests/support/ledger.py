"""A small ledger to play with: keys, a genesis, a chain of blocks without work, and a stand-in for training.

`HashTraining` answers the learning engine's questions with hashes instead of tensors: a segment's output is a digest
of its seed, so honest, copied and flawed segments differ as real ones do, at no cost. The rules under test are real.
"""

from dataclasses import replace

from chain.block import Block, compute_transactions_root
from chain.codec import encode
from chain.dispute import AnswerDispute, Demand, DemandDigests, DisputeContribution
from chain.genesis import Allocation, Genesis, Parameters, TaskSpec, compute_segment_seed
from chain.hashing import tagged_hash
from chain.header import Foliage, Header, Trunk, compute_beacon, compute_trunk_hash
from chain.header import compute_signing_hash as compute_header_signing_hash
from chain.ledger.accounts import get_account
from chain.ledger.apply import apply_block, assemble_block, execute_block
from chain.ledger.bonds import make_report
from chain.ledger.context import BlockDraft, BlockEffects, get_task_state, make_context
from chain.ledger.genesis_state import compute_genesis_beacon, make_genesis_state
from chain.ledger.keys import beacon_key, contribution_key, dispute_key, task_key
from chain.ledger.learning import Leaf, SegmentContext
from chain.ledger.records import Account, Contribution, ContributionKey, Dispute, DisputeKey, TaskState
from chain.ledger.supply import compute_holdings
from chain.ledger.tasks import get_first_round, get_segment_context, get_task
from chain.ledger.transactions import verify_signatures
from chain.packed import pack_block, pack_transactions
from chain.primitives import ZERO_HASH, Hash, PublicKey, Signature
from chain.signature import SigningKey
from chain.state.tree import MemoryNodes
from chain.state.view import StateView
from chain.ticket import EMPTY_TICKET, Ticket, TicketOpening
from chain.transaction import (
    Action,
    CommitContribution,
    ProveContribution,
    ReportEquivocation,
    Sidecar,
    Transaction,
    TransactionBody,
    compute_signing_hash,
)
from tests.support.hash_training import HashTraining, MemoryContent

ALICE, BOB, CAROL, DAVE = (SigningKey(bytes([number]) * 32) for number in range(1, 5))
"""Alice, Bob and Carol mine; Dave only has money."""

PARAMETERS = Parameters()
FUNDS = 1_000 * 10**9
"""What every account may spend at first."""
TASK = TaskSpec("digits", b"\x01", tagged_hash("test.dataset"), tagged_hash("test.checkpoint"))


def make_genesis(parameters: Parameters = PARAMETERS) -> Genesis:
    """Return a genesis with four funded accounts of which three mine, on a bond beside their funds."""
    miners = tuple(key.public_key for key in (ALICE, BOB, CAROL))
    return Genesis(
        network="test",
        timestamp_ms=1_700_000_000_000,
        target=2**255,
        parameters=parameters,
        allocations=(
            *(Allocation(miner, FUNDS + parameters.bond) for miner in miners),
            Allocation(DAVE.public_key, FUNDS),
        ),
        miners=miners,
        task=TASK,
    )


class LedgerChain:
    """Blocks on blocks: each is executed, put under a header, applied again, and audited for lost or made atoms."""

    def __init__(self, genesis: Genesis | None = None) -> None:
        self.genesis = genesis or make_genesis()
        self.context = make_context(self.genesis)
        self.root, nodes = make_genesis_state(self.genesis)
        self.nodes = MemoryNodes(nodes)
        self.height = 0
        self.beacon = compute_genesis_beacon(self.context.chain_id)
        self.training = HashTraining()
        self.content = MemoryContent()
        self.blocks: list[Block] = []
        self.trained = self.context.task_id
        """The task that what is made here is of: commits, proofs, demands, answers."""

    @property
    def view(self) -> StateView:
        return StateView(self.root, self.nodes)

    @property
    def task(self) -> TaskState:
        return get_task_state(self.context, self.view)

    @property
    def state(self) -> TaskState:
        """Where the task stands that is being trained."""
        return self.view.get_existing(task_key(self.trained))

    def account(self, key: SigningKey) -> Account:
        return get_account(self.view, key.public_key)

    def contribution(self, key: SigningKey, index: int = 0, round_number: int | None = None) -> Contribution:
        number = self.state.round if round_number is None else round_number
        return self.view.get_existing(contribution_key(self.trained, number, ContributionKey(key.public_key, index)))

    def sign(self, key: SigningKey, action: Action, fee: int = 0, nonce: int | None = None) -> Transaction:
        count = self.account(key).nonce if nonce is None else nonce
        body = TransactionBody(key.public_key, count, fee, action)
        return Transaction(body, key.sign(compute_signing_hash(self.context.chain_id, body)))

    def segment(
        self, key: SigningKey, index: int = 0, anchor: int | None = None, task: Hash | None = None
    ) -> SegmentContext:
        task = self.trained if task is None else task
        state = self.view.get_existing(task_key(task))
        anchored = state.start_height if anchor is None else anchor
        beacon = self.view.get_existing(beacon_key(anchored)).beacon
        seed = compute_segment_seed(self.context.chain_id, task, state.round, beacon, key.public_key, index)
        first_round = get_first_round(self.context, get_task(self.context, self.view, task))
        return SegmentContext(seed, state.checkpoint_root, state.round - first_round)

    def commit(
        self, key: SigningKey, index: int = 0, anchor: int | None = None, sidecar: Sidecar | None = None
    ) -> CommitContribution:
        anchored = self.task.start_height if anchor is None else anchor
        segment = self.segment(key, index, anchored)
        content = sidecar or self.training.make_sidecar(segment)
        names = segment.seed, *self.training.compute_roots(content), self.content.add(content)
        return CommitContribution(self.trained, self.state.round, index, anchored, *names)

    def prove(self, key: SigningKey, index: int = 0) -> ProveContribution:
        contribution = self.contribution(key, index)
        task = get_task(self.context, self.view, self.trained)
        segment = get_segment_context(self.context, self.view, task, self.state.round, contribution)
        openings = self.training.make_openings(segment, contribution.challenge)
        return ProveContribution(self.trained, self.state.round, index, openings)

    def demand(
        self,
        miner: SigningKey,
        demand: Demand | None = None,
        index: int = 0,
        deposit: int | None = None,
        round_number: int | None = None,
    ) -> DisputeContribution:
        """Return a demand of the op 1 of step 3 of a segment, of the running round and the first one by default."""
        number = self.state.round if round_number is None else round_number
        name = contribution_key(self.trained, number, ContributionKey(miner.public_key, index))
        contribution = self.view.get(name)
        return DisputeContribution(
            task=self.trained,
            round=number,
            miner=miner.public_key,
            index=index,
            sidecar_hash=ZERO_HASH if contribution is None else contribution.sidecar_hash,
            step=3,
            op=1,
            demand=DemandDigests(0) if demand is None else demand,
            deposit=self.context.parameters.deposit if deposit is None else deposit,
        )

    def dispute(
        self, miner: SigningKey, challenger: SigningKey, index: int = 0, round_number: int | None = None
    ) -> Dispute | None:
        number = self.state.round if round_number is None else round_number
        key = DisputeKey(self.trained, number, miner.public_key, index, challenger.public_key)
        return self.view.get(dispute_key(key))

    def answer(self, miner: SigningKey, challenger: SigningKey, round_number: int | None = None) -> AnswerDispute:
        """Return what answers a challenger's demand of the segment 0 that `miner` committed."""
        number = self.state.round if round_number is None else round_number
        dispute = self.dispute(miner, challenger, 0, number)
        assert dispute is not None
        sidecar = self.content.get_sidecar(self.contribution(miner, 0, number).sidecar_hash)
        shown = self.training.make_answer(sidecar, (Leaf(dispute.step, dispute.op), dispute.demand))
        return AnswerDispute(self.trained, number, miner.public_key, 0, challenger.public_key, shown)

    def ticket(self, key: SigningKey, index: int = 0, anchor: int | None = None) -> Ticket:
        anchored = self.task.start_height if anchor is None else anchor
        sidecar = self.training.make_sidecar(self.segment(key, index, anchored, self.context.task_id))
        roots = self.training.compute_operand_roots(TASK, self.task.checkpoint_root, sidecar, 3, 1)
        return replace(
            EMPTY_TICKET,
            task=self.context.task_id,
            round=self.task.round,
            anchor_height=anchored,
            index=index,
            step=3,
            op=1,
            root_a=roots[0],
            root_b=roots[1],
            digest=tagged_hash("test.digest", self.beacon),
        )

    def sign_again(self, key: SigningKey, height: int, salt: int) -> Header:
        """Return another header that `key` signed for the ticket of the block at `height`."""
        trunk = self.blocks[height - 1].header.trunk
        foliage = replace(
            self.blocks[height - 1].header.foliage,
            miner=key.public_key,
            trunk_hash=compute_trunk_hash(trunk),
            state_root=tagged_hash("test.content", salt.to_bytes(4, "little")),
        )
        return Header(trunk, foliage, key.sign(compute_header_signing_hash(self.context.chain_id, foliage)))

    def report(self, key: SigningKey, height: int, recipient: SigningKey = DAVE) -> ReportEquivocation:
        """Return evidence against `key` for the ticket of the block at `height`."""
        one, other = (self.sign_again(key, height, salt) for salt in (1, 2))
        return make_report(one, other, recipient.public_key)

    def draft(self, miner: SigningKey = ALICE, ticket: Ticket | None = None) -> BlockDraft:
        mined = ticket or self.ticket(miner)
        beacon = compute_beacon(self.beacon, mined.digest)
        return BlockDraft(self.height + 1, 1_700_000_000_000 + self.height, miner.public_key, mined, beacon)

    def execute(self, draft: BlockDraft, *transactions: Transaction) -> BlockEffects:
        return execute_block(self.context, self.view, draft, transactions, self.training, self.content)

    def apply(self, block: Block) -> BlockEffects:
        return apply_block(self.context, self.view, pack_block(block), self.training, self.content, verify_signatures)

    def make_block(self, draft: BlockDraft, transactions: tuple[Transaction, ...], state_root: Hash) -> Block:
        foliage = Foliage(
            version=1,
            height=draft.height,
            parent_hash=ZERO_HASH,
            timestamp_ms=draft.timestamp_ms,
            target=2**255,
            miner=draft.miner,
            state_root=state_root,
            transactions_root=compute_transactions_root(transactions),
            trunk_hash=ZERO_HASH,
            history_root=ZERO_HASH,
        )
        header = Header(Trunk(draft.ticket, draft.beacon, draft.height), foliage, Signature(bytes(64)))
        return Block(header, TicketOpening((), ()), transactions)

    def mine(self, *transactions: Transaction, miner: SigningKey = ALICE, ticket: Ticket | None = None) -> BlockEffects:
        """Append a block with these transactions and check that no atom was made or lost."""
        draft = self.draft(miner, ticket)
        before = encode(self.task)
        effects = self.execute(draft, *transactions)
        block = self.make_block(draft, transactions, effects.state_root)
        assert self.apply(block) == effects
        assert encode(self.task) == before, "executing changed the parent's state"
        self._advance(draft, block, effects)
        return effects

    def assemble(self, *candidates: Transaction, miner: SigningKey = ALICE) -> tuple[Transaction, ...]:
        """Append a block of those candidates that hold and return them."""
        draft = self.draft(miner)
        packed = pack_transactions(candidates)
        assembly = assemble_block(self.context, self.view, draft, packed, self.training, self.content)
        chosen = tuple(each.transaction for each in assembly.transactions)
        assert self.execute(draft, *chosen) == assembly.effects
        block = self.make_block(draft, chosen, assembly.effects.state_root)
        self._advance(draft, block, assembly.effects)
        return chosen

    def mine_to(self, height: int, miner: SigningKey = ALICE) -> None:
        """Append empty blocks up to `height`."""
        while self.height < height:
            self.mine(miner=miner)

    def _advance(self, draft: BlockDraft, block: Block, effects: BlockEffects) -> None:
        self.nodes.add(effects.new_nodes)
        self.root, self.height, self.beacon = effects.state_root, draft.height, draft.beacon
        self.blocks.append(block)
        holdings = compute_holdings(self.view)
        assert holdings.is_conserved, holdings


def settle_round(chain: LedgerChain, *contributors: SigningKey, miner: SigningKey = ALICE) -> BlockEffects:
    """Run the round that starts at the head: every contributor commits, proves and settles segment 0."""
    start = chain.task.start_height
    assert chain.height == start
    chain.mine(*(chain.sign(key, chain.commit(key)) for key in contributors), miner=miner)
    chain.mine_to(start + 3, miner)
    chain.mine(*(chain.sign(key, chain.prove(key)) for key in contributors), miner=miner)
    chain.mine_to(start + 8, miner)
    return chain.mine(miner=miner)


def make_public_key(number: int) -> PublicKey:
    """Return the public key of a fresh, deterministic account."""
    return SigningKey(number.to_bytes(32, "big")).public_key
