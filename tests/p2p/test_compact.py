"""Compact blocks: completed from a pool, or asked for, and never completed wrongly."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.codec import decode, encode
from chain.header import compute_header_hash
from chain.packed import PackedBlock, pack_block, pack_transaction
from chain.primitives import Hash
from chain.transaction import compute_transaction_hash
from p2p import compact as compact_module
from p2p.compact import SHORT_ID_BYTES, CompactBlock, complete, find_transactions, make_compact_block
from tests.support.scripted_chain import GENESIS, make_block, make_transfer

TRANSFERS = tuple(make_transfer(nonce) for nonce in range(12))
HASHES = tuple(compute_transaction_hash(transfer) for transfer in TRANSFERS)


def make_pair(count: int, salt: int = 7) -> tuple[PackedBlock, CompactBlock]:
    block = pack_block(make_block(GENESIS, 1, TRANSFERS[:count]))
    return block, make_compact_block(block, salt)


@given(st.sets(st.integers(0, 11)), st.integers(0, 12), st.integers(0, 2**64 - 1))
def test_what_the_pool_has_is_found_and_the_rest_named(pooled: set[int], count: int, salt: int) -> None:
    block, compact = make_pair(count, salt)
    assert decode(CompactBlock, encode(compact), 100_000) == compact
    found = find_transactions(compact, [HASHES[number] for number in sorted(pooled)])
    assert found == [HASHES[number] if number in pooled else None for number in range(count)]
    assert complete(compact, block.transactions) == block


def test_names_differ_by_block_and_salt() -> None:
    _, compact = make_pair(3)
    _, other_salt = make_pair(3, salt=8)
    other_block = make_compact_block(pack_block(make_block(GENESIS, 1, TRANSFERS[:3], salt=1)), 7)
    names = {each.short_ids[:SHORT_ID_BYTES] for each in (compact, other_salt, other_block)}
    assert len(names) == 3


def test_two_of_a_pool_that_share_a_name_are_both_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_module, "compute_short_id", lambda _key, name: bytes(5) + bytes([name[0] & 1]))
    _, compact = make_pair(2)
    even = [Hash(bytes([2]) + bytes(31)), Hash(bytes([4]) + bytes(31))]
    odd = [Hash(bytes([3]) + bytes(31))]
    expected = {bytes(6): None, bytes(5) + b"\x01": odd[0]}
    names = [compact.short_ids[:6], compact.short_ids[6:]]
    assert find_transactions(compact, even + odd) == [expected[name] for name in names]


def test_other_transactions_complete_nothing() -> None:
    (block, compact), other_transfer = make_pair(4), pack_transaction(TRANSFERS[5])
    for wrong in (
        block.transactions[::-1],
        block.transactions[:3],
        (*block.transactions, other_transfer),
        (*block.transactions[:3], other_transfer),
    ):
        assert complete(compact, wrong) is None
    other = replace(compact, header=make_block(GENESIS, 1, TRANSFERS[:3]).header)
    assert compute_header_hash(other.header) != compute_header_hash(compact.header)
    assert complete(other, block.transactions) is None
