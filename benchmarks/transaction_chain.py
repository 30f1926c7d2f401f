"""Blocks full of transfers between many accounts, and nodes that import them.

Everything is real but the work: tickets are stubs whose digests lie below the threshold, and a node that is built here
takes them unseen. So what is measured is transactions, state and disk, and no matmul.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from chain.block import Block, compute_transactions_root
from chain.errors import MissingData
from chain.genesis import Allocation, Genesis, Parameters, TaskSpec
from chain.hashing import tagged_hash
from chain.ledger.apply import execute_block
from chain.ledger.context import BlockDraft, make_context
from chain.ledger.genesis_state import make_genesis_state
from chain.packed import decode_block
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.state.tree import MemoryNodes
from chain.state.view import StateView
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import open_block_store
from chain.ticket import EMPTY_TICKET, Ticket, TicketOpening
from chain.transaction import Sidecar, Transaction, TransactionBody, Transfer, compute_signing_hash
from consensus.header_chain import ChainEntry, make_entry, make_first_entry, make_genesis_header
from consensus.header_rules import (
    HeaderContent,
    HeaderContext,
    compute_round,
    compute_timestamp_min,
    make_header,
    make_header_context,
    make_trunk,
)
from consensus.history import History
from ml.backends import get_backend
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.spec import DIGITS, encode_spec
from node.admission import Admission
from node.chain import Chain
from node.gate import TransactionGate
from node.importer import Importer
from node.learning import Learning, load_task
from node.mempool import DEFAULT_BOUNDS, Mempool, PoolBounds
from node.outcomes import ImportResult
from node.signatures import Signatures
from node.threads import spread_in_line, spread_over_threads

START_MS = 1_700_000_000_000
TICKET_MACS = 32 * 32 * 1_024
MINER = SigningKey(b"\x11" * 32)
FUNDERS = 1_000
"""Accounts of genesis, which pay every other its first atoms."""


def make_load_genesis(funders: int = FUNDERS) -> Genesis:
    """Return a genesis of one miner and `funders` funded accounts, around the task of the development network."""
    roots = load_digits(DIGITS.heldout).root, compute_checkpoint_root(compute_initial_checkpoint(build_program(DIGITS)))
    keys = [make_account(number) for number in range(funders)]
    return Genesis(
        network="load",
        timestamp_ms=START_MS,
        target=1 << 200,
        parameters=Parameters(),
        allocations=tuple(Allocation(key.public_key, 100_000 * ATOMS_PER_COIN) for key in (MINER, *keys)),
        miners=(MINER.public_key,),
        task=TaskSpec("digits", encode_spec(DIGITS), *roots),
    )


def make_account(number: int) -> SigningKey:
    """Return the key of one account."""
    return SigningKey(number.to_bytes(32, "big"))


class NoContent:
    """A source of block data that has none: no block here commits a segment."""

    def get_sidecar(self, sidecar_hash: Hash) -> Sidecar:
        """Raise MissingData."""
        raise MissingData((sidecar_hash,))


class BlockMaker:
    """Grows a chain in memory, block by block, of whatever transactions it is given."""

    def __init__(self, genesis: Genesis, accounts: int, learning: Learning) -> None:
        """Stand on the genesis block and know `accounts` keys."""
        self.genesis = genesis
        self.context: HeaderContext = make_header_context(self.genesis, lambda _: TICKET_MACS)
        self.ledger = make_context(self.genesis)
        root, nodes = make_genesis_state(self.genesis)
        self.nodes = MemoryNodes(nodes)
        self.tip: ChainEntry = make_first_entry(make_genesis_header(self.genesis, root), History())
        self.keys = [make_account(number) for number in range(accounts)]
        self._nonces = [0] * accounts
        self._salt = 0
        self.learning = learning

    def branch(self, salt: int) -> "BlockMaker":
        """Return a maker that goes on from the same tip; chains of two salts have no further block in common."""
        other = copy(self)
        other._nonces, other._salt = list(self._nonces), salt
        return other

    def transfer(self, sender: int, recipient: int, amount: int = 1, fee: int = 1_000) -> Transaction:
        """Return the signed next transfer of an account."""
        key, nonce = self.keys[sender], self._nonces[sender]
        self._nonces[sender] += 1
        body = TransactionBody(key.public_key, nonce, fee, Transfer(self.keys[recipient].public_key, amount))
        return Transaction(body, key.sign(compute_signing_hash(self.ledger.chain_id, body)))

    def fund(self, per_block: int) -> list[Block]:
        """Return the blocks that give every account beyond genesis its atoms."""
        payments = iter([(n % FUNDERS, n) for n in range(FUNDERS, len(self.keys))])
        blocks = []
        while batch := list(islice(payments, per_block)):
            blocks.append(self.make_block([self.transfer(*each, amount=ATOMS_PER_COIN) for each in batch]))
        return blocks

    def make_transfers(self, count: int, shift: int = 0) -> list[Transaction]:
        """Return transfers of `count` different senders to `count` different recipients, spread over all accounts."""
        accounts = len(self.keys)
        step = max(1, accounts // count)
        senders = [(n * step + shift) % accounts for n in range(count)]
        return [self.transfer(sender, (sender * 7 + 3) % accounts) for sender in senders]

    def make_block(self, transactions: Sequence[Transaction]) -> Block:
        """Append a block of these transactions and return it."""
        chosen, parent = tuple(transactions), self.tip
        ticket = self._make_stub(parent)
        timestamp_ms = max(parent.header.foliage.timestamp_ms + 2_000, compute_timestamp_min(self.context, parent))
        trunk = make_trunk(self.context, parent, ticket)
        draft = BlockDraft(parent.height + 1, timestamp_ms, MINER.public_key, ticket, trunk.beacon)
        view = StateView(parent.header.foliage.state_root, self.nodes)
        effects = execute_block(self.ledger, view, draft, chosen, self.learning, NoContent())
        self.nodes.add(effects.new_nodes)
        roots = effects.state_root, compute_transactions_root(chosen)
        content = HeaderContent(MINER.public_key, timestamp_ms, *roots)
        header = make_header(self.context, parent, ticket, content, MINER)
        self.tip = make_entry(header, parent)
        return Block(header, TicketOpening((), ()), chosen)

    def _make_stub(self, parent: ChainEntry) -> Ticket:
        noise = tagged_hash("synthetic.ticket", parent.hash, self._salt.to_bytes(4, "big"))
        return replace(
            EMPTY_TICKET,
            task=self.context.task_id,
            round=compute_round(self.context, parent.height),
            anchor_height=max(0, parent.height - 1),
            step=noise[0] % 64,
            root_a=noise,
            root_b=noise,
            # Any target in use here is met by a digest that starts with eight zero bytes.
            digest=Hash(bytes(8) + noise[:24]),
        )


@dataclass(frozen=True, slots=True)
class LoadNode:
    """The parts of a node that take transactions and blocks in."""

    chain: Chain
    mempool: Mempool
    gate: TransactionGate
    importer: Importer
    signatures: Signatures


@contextmanager
def open_load_node(
    root: Path, genesis: Genesis, threads: int, bounds: PoolBounds = DEFAULT_BOUNDS
) -> Iterator[LoadNode]:
    """Open a node's chain under `root` whose importer takes every ticket and verifies signatures on `threads`."""
    context = make_header_context(genesis, lambda _: TICKET_MACS)
    with open_block_store(root / "database") as store:
        chain = Chain(store, BlobStore(root / "blobs"), context)
        learning, mempool = make_learning(genesis, root), Mempool(bounds)
        signatures = Signatures(context.chain_id, spread_over_threads(threads))
        gate = TransactionGate(chain, mempool, learning, signatures, get_time_ms)
        admission = Admission(chain, lambda _block, _parent: None, get_time_ms, spread_in_line)
        importer = Importer(chain, learning, lambda _block, _parent: None, admission, signatures.verify)
        importer.listeners.append(gate.on_head)
        yield LoadNode(chain, mempool, gate, importer, signatures)


async def take_block(node: LoadNode, data: bytes) -> None:
    """Import a block as a peer sends it."""
    outcome = await node.importer.import_block(decode_block(data))
    assert outcome.result in {ImportResult.EXTENDED, ImportResult.REORGED, ImportResult.SIDE_BRANCH}, outcome


def get_time_ms() -> int:
    """Return a time at which every block of a load is old enough."""
    return 2 * START_MS


def make_learning(genesis: Genesis, root: Path) -> Learning:
    """Return the learning engine of the genesis' task."""
    task = load_task(genesis.task)
    return Learning(task, get_backend("cpu"), BlobStore(root / "blobs"), genesis.parameters.places_drawn)
