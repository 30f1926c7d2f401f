"""Packed transactions and blocks: whatever is taken from their bytes is what their records say."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.block import BLOCK_BYTES_MAX, Block, compute_transactions_root
from chain.codec import decode, encode
from chain.errors import DecodeError
from chain.hashing import tagged_hash
from chain.packed import cut_opening, decode_block, decode_transaction, pack_block, pack_transaction
from chain.primitives import Hash, PublicKey, Signature
from chain.transaction import (
    TRANSACTION_BYTES_MAX,
    ProveContribution,
    Transaction,
    TransactionBody,
    Transfer,
    compute_signing_hash,
    compute_transaction_hash,
)
from tests.support.ledger import DAVE, LedgerChain, make_public_key

KEYS = st.binary(min_size=32, max_size=32).map(PublicKey)
TRANSFERS = st.builds(Transfer, KEYS, st.integers(0, 2**64 - 1))
PROOFS = st.builds(
    ProveContribution,
    KEYS.map(Hash),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
    st.lists(st.binary(min_size=1, max_size=300), max_size=5).map(tuple),
)
BODIES = st.builds(TransactionBody, KEYS, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), TRANSFERS | PROOFS)
TRANSACTIONS = st.builds(Transaction, BODIES, st.binary(min_size=64, max_size=64).map(Signature))


@given(TRANSACTIONS, st.binary(min_size=32, max_size=32).map(Hash))
def test_hashes_of_bytes_are_those_of_the_record(transaction: Transaction, chain_id: Hash) -> None:
    packed = pack_transaction(transaction)
    assert packed == decode_transaction(encode(transaction))
    assert packed.hash == compute_transaction_hash(transaction) == tagged_hash("transaction", packed.data)
    assert packed.compute_signing_hash(chain_id) == compute_signing_hash(chain_id, transaction.body)


@settings(deadline=None, max_examples=20)
@given(st.lists(TRANSACTIONS, max_size=40))
def test_a_packed_block_is_the_block(transactions: list[Transaction]) -> None:
    chain = LedgerChain()
    chain.mine()
    block = replace(chain.blocks[0], transactions=tuple(transactions))
    packed = pack_block(block)
    assert packed.encode() == encode(block)
    assert decode_block(packed.encode()) == packed
    assert packed.compute_size_bytes() == len(encode(block))
    whole, empty = encode(block), encode(replace(block, transactions=()))
    assert cut_opening(whole) == encode(block.opening)
    assert cut_opening(empty[:-1] + b"\xc1") == encode(block.opening), "nothing behind it is looked at"
    assert packed.compute_transactions_root() == compute_transactions_root(block.transactions)


def test_bytes_that_are_no_transaction_are_refused() -> None:
    chain = LedgerChain()
    data = pack_transaction(chain.sign(DAVE, Transfer(make_public_key(7), 1))).data
    for altered in (b"", data[:-1], data + b"\x00", b"\x93" + data[1:], bytes(TRANSACTION_BYTES_MAX + 1)):
        with pytest.raises(DecodeError):
            decode_transaction(altered)


def test_a_field_out_of_range_cannot_be_packed() -> None:
    chain = LedgerChain()
    transaction = chain.sign(DAVE, Transfer(make_public_key(7), 1))
    with pytest.raises(DecodeError):
        pack_transaction(replace(transaction, body=replace(transaction.body, fee=-1)))


def test_arrays_short_and_long_have_their_own_heads() -> None:
    """The head of an array of transactions changes its form at 16; a block of 4,096 still packs to its encoding."""
    chain = LedgerChain()
    chain.mine()
    transaction = chain.sign(DAVE, Transfer(make_public_key(7), 1))
    for count in (0, 15, 16, 4_096):
        block: Block = replace(chain.blocks[0], transactions=(transaction,) * count)
        assert pack_block(block).encode() == encode(block)


def test_a_block_has_one_encoding_and_no_other() -> None:
    """What `decode` refuses is refused here too: longer heads, what follows, what is cut off, what is another shape."""
    chain = LedgerChain()
    chain.mine(chain.sign(DAVE, Transfer(make_public_key(7), 1)))
    block = chain.blocks[0]
    data, count_place = encode(block), len(encode(replace(block, transactions=()))) - 1
    assert data[0] == 0x93
    assert data[count_place] == 0x91
    for altered in (
        b"",
        data[:-1],
        data + b"\x00",
        b"\xdc\x00\x03" + data[1:],
        data[:count_place] + b"\xdc\x00\x01" + data[count_place + 1 :],
        data[:count_place] + b"\x92" + data[count_place + 1 :],
        data[:count_place] + b"\xdd\xff\xff\xff\xff" + data[count_place + 1 :],
        b"\x94" + data[1:] + b"\xc0",
        data[:count_place] + b"\x91\xc0",
        b"\x93\xc0\xc0\x90",
        b"\x93" + b"\x91" * 5_000,
        bytes(BLOCK_BYTES_MAX + 1),
    ):
        with pytest.raises(DecodeError):
            decode_block(altered)
        with pytest.raises(DecodeError):
            decode(Block, altered, BLOCK_BYTES_MAX)


@settings(deadline=None)
@given(st.data())
def test_bytes_are_a_block_for_both_decoders_or_for_none(data: st.DataObject) -> None:
    chain = LedgerChain()
    chain.mine(chain.sign(DAVE, Transfer(make_public_key(7), 1)))
    raw = bytearray(encode(chain.blocks[0]))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert _try(lambda: decode(Block, bytes(raw), BLOCK_BYTES_MAX)) == _try(lambda: decode_block(bytes(raw)).block)


def _try(read: Callable[[], Block]) -> Block | None:
    try:
        return read()
    except DecodeError:
        return None
