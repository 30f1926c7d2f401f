"""`python -m benchmarks.relay`: what a block costs on the wire and at its receiver, whole and compact.

A block of 2,000 transfers with the opening of a ticket at K = 1,024, against pools that know all, most or none of it.
Bytes are those of frames; times are medians of one thread. It writes benchmarks/results/relay.md.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.lab.tables import describe_run, format_table
from benchmarks.openings import measure_us
from chain.block import Block, compute_transactions_root
from chain.codec import encode
from chain.hashing import tagged_hash
from chain.header import Foliage, Header, Trunk, compute_header_hash, compute_trunk_hash
from chain.packed import pack_block
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.signature import SigningKey
from chain.ticket import EMPTY_TICKET
from chain.transaction import Transaction, TransactionBody, Transfer, compute_signing_hash, compute_transaction_hash
from consensus.ticket import open_ticket
from ml.tensor_tree import compute_tensor_root
from p2p.compact import complete, find_transactions, make_compact_block
from p2p.content import read_block
from p2p.messages import BlockMessage, CompactMessage, GetTransactions, Message, Transactions, encode_frame

RESULTS = Path(__file__).parent / "results" / "relay.md"
TRANSACTIONS = 2_000
STRANGERS = 8_000
"""Transactions of the pool that the block does not hold."""
SHARES = (100, 99, 90, 0)
K = 1_024


def make_transfers(count: int, first: int) -> tuple[Transaction, ...]:
    """Return signed transfers of one account."""
    key = SigningKey(b"\x05" * 32)
    bodies = [TransactionBody(key.public_key, first + i, 1_000 + i, Transfer(key.public_key, 5)) for i in range(count)]
    return tuple(Transaction(body, key.sign(compute_signing_hash(ZERO_HASH, body))) for body in bodies)


def make_block(transactions: tuple[Transaction, ...]) -> Block:
    """Return a block whose opening is that of a real tile, and whose header nobody mined."""
    values = np.random.default_rng(1)
    a, bt = (values.integers(-63, 64, (64, K), np.int8) for _ in range(2))
    ticket = replace(EMPTY_TICKET, root_a=compute_tensor_root(a), root_b=compute_tensor_root(bt))
    trunk = Trunk(ticket, tagged_hash("benchmark", b"relay"), 1)
    root, anybody = compute_transactions_root(transactions), PublicKey(ZERO_HASH)
    foliage = Foliage(1, 1, ZERO_HASH, 0, 1, anybody, ZERO_HASH, root, compute_trunk_hash(trunk), ZERO_HASH)
    header = Header(trunk, foliage, transactions[0].signature)
    return Block(header, open_ticket(ticket, a, bt), transactions)


def count_bytes(messages: Iterable[Message]) -> int:
    """Return the bytes of the frames that carry `messages`."""
    return sum(len(encode_frame(message)) for message in messages)


def measure_bytes(block: Block, known_percent: int) -> tuple[int, int]:
    """Return the bytes and the further round trips of a compact block at a receiver that knows so much of it."""
    packed = pack_block(block)
    compact, hashes = make_compact_block(packed, 1), [each.hash for each in packed.transactions]
    known = set(random.Random(1).sample(hashes, len(hashes) * known_percent // 100))
    found = find_transactions(compact, known)
    positions = tuple(place for place, name in enumerate(found) if name is None)
    messages: list[Message] = [CompactMessage(compact)]
    if positions:
        block_hash = compute_header_hash(block.header)
        messages.append(GetTransactions(block_hash, positions))
        messages.append(Transactions(block_hash, tuple(encode(block.transactions[place]) for place in positions)))
    return count_bytes(messages), bool(positions)


def measure_times(block: Block, pool: list[Hash]) -> list[tuple[str, float]]:
    """Return the median milliseconds of each part of the work."""
    packed, data = pack_block(block), encode(block)
    compact = make_compact_block(packed, 1)
    parts: list[tuple[str, Callable[[], object]]] = [
        ("naming the transactions, once a block, by the sender", lambda: make_compact_block(packed, 1)),
        (f"finding them in a pool of {len(pool):,}", lambda: find_transactions(compact, pool)),
        ("completing the block and checking it", lambda: complete(compact, packed.transactions)),
        ("reading a block that came whole", lambda: read_block(data)),
    ]
    return [(name, measure_us(function) / 1e3) for name, function in parts]


def main() -> None:
    """Measure, print and write the page."""
    block = make_block(make_transfers(TRANSACTIONS, 0))
    strangers = [compute_transaction_hash(transaction) for transaction in make_transfers(STRANGERS, TRANSACTIONS)]
    whole = count_bytes([BlockMessage(encode(block))])
    rows = []
    for percent in SHARES:
        size_bytes, trips = measure_bytes(block, percent)
        rows.append([f"{percent} %", f"{size_bytes:,}", f"{size_bytes / whole:.3f}", str(int(trips))])
    opening = len(encode(block.opening))
    pool = [compute_transaction_hash(transaction) for transaction in block.transactions] + strangers
    times = [[name, f"{ms:.1f}"] for name, ms in measure_times(block, pool)]
    page = "\n".join(
        [
            "# Relaying a block\n",
            f"`python -m benchmarks.relay` on {describe_run()}\n",
            f"A block of {TRANSACTIONS:,} transfers: {whole:,} bytes, {opening:,} of them the opening of a ticket",
            f"at K = {K:,}, which nobody can know before.\n",
            format_table(["known of it", "bytes, compact", "of the whole", "further round trips"], rows),
            "A pushed block needs no question; one that is announced takes the round trip of a whole one.\n",
            format_table(["work", "ms"], times),
        ]
    )
    print(page)
    RESULTS.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
