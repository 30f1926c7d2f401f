"""Blocks: a header, the opening of its ticket, and the transactions under its root.

What a block may hold and what it changes is decided by consensus and the ledger; here are only its fields and sizes.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import Many, encode
from chain.header import Header
from chain.merkle import compute_root
from chain.primitives import Hash
from chain.ticket import TicketOpening
from chain.transaction import Transaction, get_sidecar_hash

BLOCK_BYTES_MAX = 2 * 1024 * 1024 - 4096
"""A block fits one frame of the wire with room for its envelope."""

TRANSACTIONS_PER_BLOCK_MAX = 4096


@dataclass(frozen=True, slots=True)
class Block:
    """What a miner publishes. Sidecars travel beside it, by hash."""

    header: Header
    opening: TicketOpening
    transactions: Annotated[tuple[Transaction, ...], Many(TRANSACTIONS_PER_BLOCK_MAX)]


def compute_transactions_root(transactions: tuple[Transaction, ...]) -> Hash:
    """Return the RFC 6962 root (SHA-256) over the canonical bytes of the transactions."""
    return compute_root([encode(transaction) for transaction in transactions])


def get_sidecar_hashes(block: Block) -> tuple[Hash, ...]:
    """Return the hashes of the block data that a block needs beside it, in transaction order."""
    names = (get_sidecar_hash(transaction.body.action) for transaction in block.transactions)
    return tuple(name for name in names if name is not None)
