"""Real blocks for nodes to keep: tiny tickets that were won, transfers between known accounts, and what they lead to.

A maker grows chains in memory; a truth executes every block it is shown by itself, so that what a node answers can be
compared with something that was never on the node's disk. Source of task and tickets: the simulator's setting.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from random import Random

from benchmarks.lab.simulator.mining import find_ticket
from benchmarks.lab.simulator.setting import INTERVAL_MS, Setting, make_setting
from benchmarks.transaction_chain import NoContent, make_learning
from chain.block import Block, compute_transactions_root
from chain.header import compute_header_hash
from chain.ledger.accounts import get_account
from chain.ledger.apply import apply_block, execute_block
from chain.ledger.context import BlockDraft, LedgerContext, make_context
from chain.ledger.genesis_state import make_genesis_state
from chain.packed import pack_block
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.state.tree import MemoryNodes
from chain.state.view import StateView
from chain.transaction import Transaction, TransactionBody, Transfer, compute_signing_hash
from consensus.header_chain import ChainEntry, make_entry, make_first_entry, make_genesis_header
from consensus.header_rules import HeaderContent, compute_timestamp_min, make_header, make_header_context, make_trunk
from consensus.history import History
from consensus.ticket import compute_ticket_macs
from node.learning import Learning
from node.validator import make_ticket_verifier

PAST_MS = 1_700_000_000_000
"""Unix time of genesis: so long ago that every block of a prepared chain lies behind every clock."""
FEE_ATOMS = 100_000


@cache
def make_past_setting() -> Setting:
    """Return the simulator's network with a genesis that real clocks accept."""
    setting = make_setting()
    genesis = replace(setting.genesis, network="reliability", timestamp_ms=PAST_MS)
    context = make_header_context(genesis, lambda ticket: compute_ticket_macs(setting.task.program, ticket))
    root, _ = make_genesis_state(genesis)
    name = compute_header_hash(make_genesis_header(genesis, root))
    verify = make_ticket_verifier(context, setting.task)
    return replace(setting, genesis=genesis, genesis_hash=name, context=context, verify=verify)


@dataclass(frozen=True, slots=True)
class Rules:
    """One network with what executes its blocks."""

    setting: Setting
    ledger: LedgerContext
    learning: Learning


def make_rules(root: Path) -> Rules:
    """Return the rules of the past network; checkpoints, which no block here changes, are kept under `root`."""
    setting = make_past_setting()
    return Rules(setting, make_context(setting.genesis), make_learning(setting.genesis, root))


def read_balances(view: StateView, setting: Setting) -> tuple[int, ...]:
    """Return the balances of all funded accounts in a state, in atoms."""
    return tuple(get_account(view, key.public_key).balance for key in (*setting.miners, *setting.accounts))


@dataclass(frozen=True, slots=True)
class Known:
    """A block that was executed in memory; genesis has none."""

    height: int
    parent: Hash
    state_root: Hash
    block: Block | None


class Truth:
    """What blocks lead to, found out without a disk."""

    def __init__(self, rules: Rules) -> None:
        """Start at genesis."""
        state_root, nodes = make_genesis_state(rules.setting.genesis)
        self._rules = rules
        self._nodes = MemoryNodes(nodes)
        self._known = {rules.setting.genesis_hash: Known(0, Hash(bytes(32)), state_root, None)}

    def __getitem__(self, name: Hash) -> Known:
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def learn(self, block: Block) -> Hash:
        """Execute a block on its parent, remember it and return its hash; raises InvalidBlock when it is none."""
        name, parent = compute_header_hash(block.header), block.header.foliage.parent_hash
        if name not in self._known:
            view = StateView(self._known[parent].state_root, self._nodes)
            effects = apply_block(self._rules.ledger, view, pack_block(block), self._rules.learning, NoContent())
            self._nodes.add(effects.new_nodes)
            self._known[name] = Known(block.header.height, parent, effects.state_root, block)
        return name

    def get_balances(self, name: Hash) -> tuple[int, ...]:
        """Return the balances after a block."""
        return read_balances(StateView(self._known[name].state_root, self._nodes), self._rules.setting)

    def list_branch(self, name: Hash) -> list[Hash]:
        """Return a block and all below it down to genesis."""
        branch = [name]
        while self._known[name].height:
            name = self._known[name].parent
            branch.append(name)
        return branch


@dataclass(slots=True)
class Maker:
    """Grows one branch in memory; forks share its states."""

    rules: Rules
    random: Random
    tip: ChainEntry
    nodes: MemoryNodes
    key: SigningKey
    nonces: dict[PublicKey, int] = field(default_factory=dict)

    def fork(self, miner: int) -> "Maker":
        """Return a maker on the same tip whose blocks are another miner's."""
        return replace(self, key=self.rules.setting.miners[miner], nonces=dict(self.nonces))

    def make_transfer(self, amount: int = 1, fee: int = FEE_ATOMS) -> Transaction:
        """Return the next transfer of a random account to another."""
        sender, recipient = self.random.sample(self.rules.setting.accounts, 2)
        nonce = self.nonces.get(sender.public_key, 0)
        self.nonces[sender.public_key] = nonce + 1
        body = TransactionBody(sender.public_key, nonce, fee, Transfer(recipient.public_key, amount))
        return sign(self.rules, sender, body)

    def make_block(self, transfers: int = 1) -> Block:
        """Append a block of so many transfers and return it."""
        return self.append([self.make_transfer() for _ in range(transfers)])

    def append(self, transactions: Sequence[Transaction]) -> Block:
        """Append a block of these transactions and return it."""
        context, parent, key = self.rules.setting.context, self.tip, self.key
        won = find_ticket(self.rules.setting, parent, key, self.random)
        assert won is not None, "no ticket in thousands of laps"
        timestamp_ms = max(parent.header.foliage.timestamp_ms + INTERVAL_MS, compute_timestamp_min(context, parent))
        trunk = make_trunk(context, parent, won.ticket)
        draft = BlockDraft(parent.height + 1, timestamp_ms, key.public_key, won.ticket, trunk.beacon)
        view = StateView(parent.header.foliage.state_root, self.nodes)
        effects = execute_block(self.rules.ledger, view, draft, tuple(transactions), self.rules.learning, NoContent())
        self.nodes.add(effects.new_nodes)
        roots = effects.state_root, compute_transactions_root(tuple(transactions))
        header = make_header(context, parent, won.ticket, HeaderContent(key.public_key, timestamp_ms, *roots), key)
        self.tip = make_entry(header, parent)
        return Block(header, won.opening, tuple(transactions))


def make_maker(rules: Rules, seed: int) -> Maker:
    """Return a maker at genesis, the first miner's."""
    root, nodes = make_genesis_state(rules.setting.genesis)
    first = make_first_entry(make_genesis_header(rules.setting.genesis, root), History())
    return Maker(rules, Random(seed), first, MemoryNodes(nodes), rules.setting.miners[0])


def sign(rules: Rules, sender: SigningKey, body: TransactionBody) -> Transaction:
    """Return a signed transaction."""
    return Transaction(body, sender.sign(compute_signing_hash(rules.ledger.chain_id, body)))


def make_diamonds(maker: Maker, count: int, depth: int) -> list[Block]:
    """Return blocks in the order in which they arrive: a branch of `depth`, then one that is longer by one, and again.

    Each second branch makes a reorganisation of `depth` blocks; the maker ends on the last one.
    """
    blocks = []
    for _ in range(count):
        losing = maker.fork(1)
        blocks += [losing.make_block() for _ in range(depth)]
        winning = maker.fork(2)
        blocks += [winning.make_block() for _ in range(depth + 1)]
        maker.tip, maker.nonces = winning.tip, winning.nonces
    return blocks
