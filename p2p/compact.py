"""A block without the transactions that its receiver has: short names in their place, six bytes each.

Names are keyed by the block and by a salt of the sender's, so nobody can make transactions that share one before the
block exists. Where two of a pool do, the sender is asked. It knows no peer and no rule; that a completed block is the
right one shows in its transactions root. Source: BIP 152, with a keyed BLAKE2b in place of SipHash.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated

from chain.block import TRANSACTIONS_PER_BLOCK_MAX, Block
from chain.codec import U64, Bytes
from chain.hashing import tagged_hash
from chain.header import Header, compute_header_hash
from chain.packed import PackedBlock, PackedTransaction
from chain.primitives import Hash
from chain.ticket import TicketOpening

SHORT_ID_BYTES = 6
"""A pool of 10,000 and a block of 2,000 share a name by accident once in 14 million blocks."""

_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class CompactBlock:
    """A block's header and opening, and the short ids of its transactions in order, one after another."""

    header: Header
    opening: TicketOpening
    salt: U64
    short_ids: Annotated[bytes, Bytes(0, SHORT_ID_BYTES * TRANSACTIONS_PER_BLOCK_MAX)]

    @property
    def length(self) -> int:
        """How many transactions the block holds."""
        return len(self.short_ids) // SHORT_ID_BYTES


def make_compact_block(packed: PackedBlock, salt: int) -> CompactBlock:
    """Return a block with its transactions named under `salt`."""
    block = packed.block
    key = _make_key(compute_header_hash(block.header), salt)
    names = (compute_short_id(key, each.hash) for each in packed.transactions)
    return CompactBlock(block.header, block.opening, salt, b"".join(names))


def compute_short_id(key: bytes, transaction_hash: Hash) -> bytes:
    """Return the six bytes that name a transaction within one compact block."""
    return blake2b(transaction_hash, digest_size=SHORT_ID_BYTES, key=key).digest()


def find_transactions(compact: CompactBlock, pool: Iterable[Hash]) -> list[Hash | None]:
    """Return for each transaction of the block the one of `pool` with its name, None when there is none or several."""
    key = _make_key(compute_header_hash(compact.header), compact.salt)
    names = [compact.short_ids[i : i + SHORT_ID_BYTES] for i in range(0, len(compact.short_ids), SHORT_ID_BYTES)]
    wanted = set(names)
    found: dict[bytes, Hash | None] = {}
    for transaction_hash in pool:
        name = compute_short_id(key, transaction_hash)
        if name in wanted:
            found[name] = None if name in found else transaction_hash
    return [found.get(name) for name in names]


def complete(compact: CompactBlock, transactions: Sequence[PackedTransaction]) -> PackedBlock | None:
    """Return the whole block, or None when these are not the transactions that its header names."""
    block = Block(compact.header, compact.opening, tuple(each.transaction for each in transactions))
    packed = PackedBlock(block, tuple(transactions))
    is_right = packed.compute_transactions_root() == compact.header.foliage.transactions_root
    return packed if is_right else None


def _make_key(block_hash: Hash, salt: int) -> bytes:
    return tagged_hash("p2p.short-id", block_hash, salt.to_bytes(8, "little"))[:_KEY_BYTES]
