"""What the parts of a block's import take alone: the floors that no arrangement of them can go below, and a profile.

Seconds of the processor in one thread where nothing else is said. It holds no chain of its own.
"""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import msgpack
import plyvel
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.lab.tables import format_table
from benchmarks.transaction_chain import BlockMaker, LoadNode, NoContent, make_account
from chain.block import Block
from chain.codec import encode
from chain.ledger.apply import execute_block, make_draft
from chain.ledger.context import BlockEffects
from chain.ledger.keys import account_key
from chain.ledger.records import Account
from chain.packed import decode_block, pack_block
from chain.primitives import PublicKey
from chain.state.tree import EMPTY_ROOT, MemoryNodes
from chain.state.update import update_tree
from chain.state.view import StateView
from chain.transaction import Transaction, Transfer
from node.threads import spread_over_threads

REPEATS = 7


def measure_s(function: Callable[[], object], clock: Callable[[], float] = process_time) -> float:
    """Return the median seconds of a call."""
    samples = []
    for _ in range(REPEATS):
        start_s = clock()
        function()
        samples.append(clock() - start_s)
    return statistics.median(samples)


def measure_floors(count: int, threads: int) -> str:
    """Return the table of what `count` transactions cost in the libraries and in the tree alone."""
    rows = [*_measure_signatures(count, threads), *_measure_encoding(count), *_measure_state(count)]
    return format_table(("part", f"ms for {count:,} transactions", "a second"), rows)


def _row(name: str, seconds: float, count: int) -> tuple[str, ...]:
    return name, f"{1_000 * seconds:.1f}", f"{count / seconds:,.0f}"


def _measure_signatures(count: int, threads: int) -> list[tuple[str, ...]]:
    key = make_account(1)
    public = Ed25519PublicKey.from_public_bytes(key.public_key)
    messages = [number.to_bytes(32, "big") for number in range(count)]
    signed = [(key.sign(message), message) for message in messages]

    def verify(start: int, stop: int) -> None:
        for signature, message in signed[start:stop]:
            public.verify(signature, message)

    spread = spread_over_threads(threads)
    return [
        _row("Ed25519, OpenSSL alone, one thread", measure_s(lambda: verify(0, count)), count),
        _row(
            f"the same on {threads} threads, by the clock",
            measure_s(lambda: spread(verify, count), perf_counter),
            count,
        ),
    ]


def _measure_encoding(count: int) -> list[tuple[str, ...]]:
    items = [[[bytes(32), number, 1_000, [0, [bytes(32), 1]]], bytes(64)] for number in range(count)]
    packed = msgpack.packb(items, use_bin_type=True)
    return [
        _row("msgpack, pack", measure_s(lambda: msgpack.packb(items, use_bin_type=True)), count),
        _row("msgpack, unpack", measure_s(lambda: msgpack.unpackb(packed, raw=False)), count),
    ]


def _measure_state(count: int) -> list[tuple[str, ...]]:
    keys = [account_key(PublicKey(number.to_bytes(32, "big"))).name for number in range(20_000)]
    value = encode(Account(1, 10**12))
    base = update_tree(MemoryNodes(), EMPTY_ROOT, dict.fromkeys(keys, value))
    nodes, changes = MemoryNodes(base.nodes), dict.fromkeys(keys[: 2 * count], encode(Account(2, 10**12)))
    update = update_tree(nodes, base.root, changes)
    rows = {node_hash: data for node_hash, data in update.nodes.items() if data is not None}
    with tempfile.TemporaryDirectory() as folder:
        database = plyvel.DB(str(Path(folder) / "floor"), create_if_missing=True)

        def write() -> None:
            with database.write_batch(sync=True) as batch:
                for node_hash, data in rows.items():
                    batch.put(node_hash, data)

        written_s = measure_s(write, perf_counter)
        database.close()
    updated_s = measure_s(lambda: update_tree(nodes, base.root, changes))
    return [
        _row(f"state tree in memory, {2 * count:,} accounts", updated_s, count),
        _row(f"LevelDB, {len(rows):,} nodes in one synced batch, by the clock", written_s, count),
    ]


def profile_block(node: LoadNode, maker: BlockMaker, block: Block) -> str:
    """Return the table of the parts of importing `block`, the next on the node's head."""
    data, packed, learning = encode(block), pack_block(block), maker.learning
    context, root = node.chain.ledger_context, node.chain.head.header.foliage.state_root
    node.signatures.find_errors(packed.transactions)
    draft, transactions = make_draft(block), block.transactions
    keys = [account_key(name) for transaction in transactions for name in _list_names(transaction)]

    def execute() -> BlockEffects:
        view = StateView(root, node.chain.store)
        return execute_block(context, view, draft, transactions, learning, NoContent())

    def change(view: StateView) -> StateView:
        for key in keys:
            account = view.get(key) or Account(0, 0)
            view.put(key, Account(account.nonce + 1, account.balance))
        return view

    def read() -> StateView:
        view = StateView(root, node.chain.store)
        view.read_ahead(keys)
        return view

    changed = change(read())
    parts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("decode, name each transaction, encode again to compare", lambda: decode_block(data)),
        ("transactions root", packed.compute_transactions_root),
        ("look up known signatures", lambda: node.signatures.find_errors(packed.transactions)),
        ("read accounts", read),
        ("update the tree", changed.commit),
        ("execute whole: read, apply, update the tree", execute),
    )
    rows = [(name, f"{1_000 * measure_s(part):.1f}") for name, part in parts]
    rows.append(("nodes that come and go", f"{len(execute().new_nodes):,} nodes"))
    return format_table(("part", "processor, ms"), rows)


def _list_names(transaction: Transaction) -> tuple[PublicKey, PublicKey]:
    """Return the two accounts of a transfer."""
    assert isinstance(transaction.body.action, Transfer)
    return transaction.body.sender, transaction.body.action.recipient
