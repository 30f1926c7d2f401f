"""Random actions on importer, pool and ledger in one process: what has to hold is checked all along.

Transfers good and bad, blocks that extend, fork, come twice, come without a parent or lie about their state are drawn
from a seed and handed to a node's real parts over a real directory; tickets are stubs. Beside it a maker executes every
good block in memory. A case is one action; `ROUND` actions are one sequence, and its seed brings it back.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from random import Random

from benchmarks.lab.reliability.part import Result, Setup, tell
from benchmarks.transaction_chain import (
    MINER,
    BlockMaker,
    LoadNode,
    NoContent,
    make_learning,
    make_load_genesis,
    open_load_node,
)
from chain.block import Block
from chain.errors import InvalidBlock, InvalidTransaction
from chain.header import compute_signing_hash as compute_header_signing_hash
from chain.ledger.accounts import get_account
from chain.ledger.apply import apply_block
from chain.ledger.genesis_state import make_genesis_state
from chain.ledger.supply import compute_holdings
from chain.packed import pack_block
from chain.primitives import Hash, Signature
from chain.state.tree import MemoryNodes
from chain.state.view import StateView
from chain.transaction import Transaction, TransactionBody, Transfer, compute_signing_hash
from node.gate import LATER_MAX
from node.importer import QUEUE_LENGTH_MAX
from node.mempool import DEFAULT_BOUNDS
from node.outcomes import ImportResult

ROUND = 2_000
ACCOUNTS = 24
POOL_BYTES_MAX = 20_000
"""So small that transactions push each other out."""
BLOCK_TRANSFERS = 12
DEPTH_MAX = 4
CHECK_EVERY = 50


class Broken(Exception):
    """Something that has to hold does not."""


@dataclass(slots=True)
class Sequence:
    """One run of actions; `main` stands on the head that the node must have."""

    node: LoadNode
    main: BlockMaker
    random: Random
    past: list[BlockMaker] = field(default_factory=list)
    """Makers that stand on the last heads, youngest last."""
    blocks: list[Block] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    salts: int = 0

    async def act(self) -> None:
        """Draw an action and carry it out; raises Broken."""
        names, weights = zip(*((name, weight) for name, (weight, _) in _ACTIONS.items()), strict=True)
        name = self.random.choices(names, weights)[0]
        self.counts[name] += 1
        await _ACTIONS[name][1](self)

    def fork(self, maker: BlockMaker) -> BlockMaker:
        """Return a maker on another's tip whose tickets are its own."""
        self.salts += 1
        return maker.branch(self.salts)

    def sign(self, maker: BlockMaker, sender: int, ahead: int = 0, amount: int = 1) -> Transaction:
        """Return a transfer whose nonce is so many ahead of the sender's after a maker's tip."""
        key, recipient = maker.keys[sender], maker.keys[self.random.randrange(ACCOUNTS)]
        nonce = get_account(StateView(maker.tip.header.foliage.state_root, maker.nodes), key.public_key).nonce
        body = TransactionBody(key.public_key, nonce + ahead, 10**6, Transfer(recipient.public_key, amount))
        return Transaction(body, key.sign(compute_signing_hash(maker.ledger.chain_id, body)))

    async def grow(self, maker: BlockMaker, transactions: list[Transaction], expected: ImportResult) -> None:
        """Append a block and import it."""
        block = maker.make_block(transactions)
        self.blocks.append(block)
        await self.expect(block, expected)

    async def expect(self, block: Block, *expected: ImportResult) -> None:
        """Import a block; raises Broken when it ends otherwise."""
        outcome = await self.node.importer.import_block(block)
        if outcome.result not in expected:
            raise Broken(f"found {outcome.result.name} ({outcome.rule} {outcome.message}), expected {expected[0].name}")


async def _offer_good(run: Sequence) -> None:
    await _offer(run, run.sign(run.main, run.random.randrange(ACCOUNTS), run.random.randrange(4)), is_bad=False)


async def _offer_bad(run: Sequence) -> None:
    sender = run.random.randrange(ACCOUNTS)
    if run.random.random() < 0.5:
        bad = run.sign(run.main, sender, amount=10**18)
    else:
        bad = replace(run.sign(run.main, sender), signature=Signature(run.random.randbytes(64)))
    await _offer(run, bad, is_bad=True)


async def _offer(run: Sequence, transaction: Transaction, *, is_bad: bool) -> None:
    try:
        await run.node.gate.admit(transaction)
    except InvalidTransaction:
        return
    if is_bad:
        raise Broken("a bad transfer was admitted")


async def _extend(run: Sequence) -> None:
    run.past = [*run.past[-DEPTH_MAX:], run.fork(run.main)]
    chosen = [packed.transaction for packed in islice(run.node.mempool.iter_candidates(), BLOCK_TRANSFERS)]
    await run.grow(run.main, chosen, ImportResult.EXTENDED)


async def _reorganise(run: Sequence) -> None:
    depth = run.random.randrange(1, DEPTH_MAX)
    if len(run.past) < depth:
        return
    maker = run.fork(run.past[-depth])
    past = run.past[: len(run.past) - depth]
    for height in range(depth + 1):
        past.append(run.fork(maker))
        senders = run.random.sample(range(ACCOUNTS), run.random.randrange(4))
        transactions = [run.sign(maker, sender) for sender in senders]
        await run.grow(maker, transactions, ImportResult.REORGED if height == depth else ImportResult.SIDE_BRANCH)
    run.main, run.past = maker, past[-DEPTH_MAX - 1 :]


async def _repeat(run: Sequence) -> None:
    if run.blocks:
        await run.expect(run.random.choice(run.blocks), ImportResult.ALREADY_KNOWN)


async def _lie(run: Sequence) -> None:
    """Import a block whose state is another than it says, or whose transactions are."""
    block = run.fork(run.main).make_block([run.sign(run.main, run.random.randrange(ACCOUNTS))])
    if run.random.random() < 0.5:
        await run.expect(replace(block, transactions=()), ImportResult.INVALID)
        return
    foliage = replace(block.header.foliage, state_root=Hash(run.random.randbytes(32)))
    signature = MINER.sign(compute_header_signing_hash(run.main.ledger.chain_id, foliage))
    header = replace(block.header, foliage=foliage, signature=signature)
    await run.expect(replace(block, header=header), ImportResult.INVALID)


async def _orphan(run: Sequence) -> None:
    maker = run.fork(run.main)
    maker.make_block([])
    await run.expect(maker.make_block([]), ImportResult.ORPHAN)


_ACTIONS: dict[str, tuple[int, Callable[[Sequence], Awaitable[None]]]] = {
    "transfers offered": (80, _offer_good),
    "bad transfers offered": (12, _offer_bad),
    "blocks that extend": (3, _extend),
    "reorganisations": (1, _reorganise),
    "known blocks": (2, _repeat),
    "lying blocks": (1, _lie),
    "orphans": (1, _orphan),
}


def run_sequences(setup: Setup) -> Result:
    """Play sequences until enough actions are done."""
    result, counts = Result(), Counter[str]()
    seed = setup.seed
    while result.reached < setup.count and not (result.reached and setup.is_over):
        root = setup.root / "sequence"
        try:
            asyncio.run(_play(root, seed, min(ROUND, setup.count - result.reached), counts))
        except (Broken, InvalidBlock) as error:
            result.fail(seed, str(error))
        shutil.rmtree(root, ignore_errors=True)
        result.reached = min(setup.count, result.reached + ROUND)
        tell(setup, result, "actions")
        seed += 1
    result.next_seed = seed
    result.figures = {name: f"{counts[name]:,}" for name in _ACTIONS} | {"sequences": f"{seed - setup.seed:,}"}
    return result


async def _play(root: Path, seed: int, actions: int, counts: Counter[str]) -> None:
    genesis = make_load_genesis(ACCOUNTS)
    with open_load_node(root, genesis, 1, replace(DEFAULT_BOUNDS, bytes_max=POOL_BYTES_MAX)) as node:
        node.importer.start()
        maker = BlockMaker(genesis, ACCOUNTS, make_learning(genesis, root))
        run = Sequence(node, maker, Random(seed), counts=counts)
        for number in range(actions):
            await run.act()
            if number % CHECK_EVERY == 0:
                _check(run)
        _check(run)
        _replay(run)
        await node.importer.stop()
        await node.gate.stop()


def _check(run: Sequence) -> None:
    node, head = run.node, run.node.chain.head
    if head.hash != run.main.tip.hash:
        raise Broken(f"found the head {head.height} {head.hash.hex()[:16]}, expected {run.main.tip.height}")
    holdings = compute_holdings(node.chain.view())
    if not holdings.is_conserved:
        raise Broken(f"atoms were made or lost: {holdings}")
    for what, found, bound in (
        ("pool bytes", node.mempool.size_bytes, POOL_BYTES_MAX),
        ("early transactions", len(node.gate._later), LATER_MAX),
        ("imports", node.importer.queue_length, QUEUE_LENGTH_MAX),
    ):
        if found > bound:
            raise Broken(f"found {found} {what}, expected at most {bound}")


def _replay(run: Sequence) -> None:
    """Execute the head's branch from genesis and compare every root."""
    chain, context = run.node.chain, run.node.chain.ledger_context
    root, genesis_nodes = make_genesis_state(run.main.genesis)
    nodes = MemoryNodes(genesis_nodes)
    for height in range(1, chain.head.height + 1):
        entry = chain.head.get_ancestor(height)
        block = chain.get_existing_block(entry.hash)
        effects = apply_block(context, StateView(root, nodes), pack_block(block), run.main.learning, NoContent())
        nodes.add(effects.new_nodes)
        root = effects.state_root
        if root != entry.header.foliage.state_root:
            raise Broken(f"a replay gives another root at height {height}")
