"""Transactions and blocks beside their canonical bytes: hashing, sizing, checking and storing encode nothing twice.

A packed transaction is made of bytes that were decoded, or by encoding once; either way `data` is the one encoding of
`transaction` and `hash` the name that follows from it. It knows no rule and no state.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgpack

from chain.block import BLOCK_BYTES_MAX, TRANSACTIONS_PER_BLOCK_MAX, Block
from chain.codec import compute_array_header, decode, encode
from chain.errors import DecodeError
from chain.hashing import tagged_hash
from chain.header import HEADER_BYTES_MAX, Header
from chain.merkle import compute_root
from chain.primitives import Hash
from chain.ticket import TicketOpening
from chain.transaction import TRANSACTION_BYTES_MAX, Transaction

_BODY_START = 1
"""Bytes before the body: the head of an array of two."""

_BODY_STOP = -(2 + 64)
"""Bytes behind the body: the signature and the head of a string of bytes."""


@dataclass(frozen=True, slots=True)
class PackedTransaction:
    """A transaction, its canonical bytes and its hash."""

    transaction: Transaction
    data: bytes
    hash: Hash

    def compute_signing_hash(self, chain_id: Hash) -> Hash:
        """Return the 32 bytes that the sender signs; the same as of the unpacked body."""
        return tagged_hash("transaction.sign", chain_id, self.data[_BODY_START:_BODY_STOP])


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """A block and its packed transactions, in order."""

    block: Block
    transactions: tuple[PackedTransaction, ...]

    def compute_transactions_root(self) -> Hash:
        """Return what `chain.block.compute_transactions_root` does."""
        return compute_root([packed.data for packed in self.transactions])

    def compute_size_bytes(self) -> int:
        """Return how many bytes `encode` returns."""
        return len(self._encode_head()) + sum(len(packed.data) for packed in self.transactions)

    def encode(self) -> bytes:
        """Return the canonical bytes of the block."""
        return self._encode_head() + b"".join([packed.data for packed in self.transactions])

    def _encode_head(self) -> bytes:
        header, opening = encode(self.block.header), encode(self.block.opening)
        return compute_array_header(3) + header + opening + compute_array_header(len(self.transactions))


def pack_transaction(transaction: Transaction) -> PackedTransaction:
    """Encode and name a transaction; raises DecodeError when a field is out of its range."""
    return _pack(transaction, encode(transaction))


def decode_transaction(data: bytes) -> PackedTransaction:
    """Return the transaction whose canonical encoding is `data`; raises DecodeError."""
    return _pack(decode(Transaction, data, TRANSACTION_BYTES_MAX), data)


def decode_block(data: bytes) -> PackedBlock:
    """Return the block whose canonical encoding is `data`; raises DecodeError.

    It is cut where its items end, so that every transaction keeps its own bytes and is decoded from them alone.
    """
    if len(data) > BLOCK_BYTES_MAX:
        raise DecodeError(f"Block: found {len(data)} bytes, expected at most {BLOCK_BYTES_MAX}")
    try:
        header, opening, *transactions = _cut_block(data)
    except (ValueError, msgpack.UnpackException) as error:
        raise DecodeError(f"Block: not msgpack of this shape: {error}") from None
    packed = tuple(decode_transaction(part) for part in transactions)
    block = Block(
        decode(Header, header, HEADER_BYTES_MAX),
        decode(TicketOpening, opening, BLOCK_BYTES_MAX),
        tuple(each.transaction for each in packed),
    )
    whole = PackedBlock(block, packed)
    # The heads of both arrays could be written longer, and something could follow.
    if whole.encode() != data:
        raise DecodeError("Block: the encoding is not the canonical one")
    return whole


def cut_opening(data: bytes) -> bytes:
    """Return the encoding of the opening in `data`, which must be a block's; no transaction is looked at."""
    reader = msgpack.Unpacker(max_buffer_size=len(data) + 1)
    reader.feed(data)
    reader.read_array_header()
    reader.skip()
    return _cut_item(reader, data)


def _cut_block(data: bytes) -> list[bytes]:
    """Return the bytes of header, opening and each transaction; raises DecodeError and what msgpack raises."""
    reader = msgpack.Unpacker(max_map_len=0, max_ext_len=0, max_buffer_size=len(data) + 1)
    reader.feed(data)
    _expect_length(reader.read_array_header(), 3, 3)
    parts = [_cut_item(reader, data) for _ in range(2)]
    count = reader.read_array_header()
    _expect_length(count, 0, TRANSACTIONS_PER_BLOCK_MAX)
    return parts + [_cut_item(reader, data) for _ in range(count)]


def _cut_item(reader: msgpack.Unpacker, data: bytes) -> bytes:
    start: int = reader.tell()
    reader.skip()
    return data[start : reader.tell()]


def _expect_length(found: int, low: int, high: int) -> None:
    if not low <= found <= high:
        raise DecodeError(f"Block: found an array of {found}, expected {low} to {high}")


def pack_block(block: Block) -> PackedBlock:
    """Encode and name every transaction of a block."""
    return PackedBlock(block, pack_transactions(block.transactions))


def pack_transactions(transactions: Iterable[Transaction]) -> tuple[PackedTransaction, ...]:
    """Encode and name transactions, in order."""
    return tuple(pack_transaction(transaction) for transaction in transactions)


def _pack(transaction: Transaction, data: bytes) -> PackedTransaction:
    return PackedTransaction(transaction, data, tagged_hash("transaction", data))
