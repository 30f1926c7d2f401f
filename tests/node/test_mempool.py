"""The pool keeps nonce order and fee order, and stays within its bounds whatever is offered."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidTransaction
from chain.primitives import PublicKey, Signature
from chain.transaction import Transaction, TransactionBody, Transfer
from node.mempool import AddResult, Mempool

ALICE, BOB = PublicKey(b"\x01" * 32), PublicKey(b"\x02" * 32)


def make_transaction(sender: PublicKey, nonce: int, fee: int) -> Transaction:
    return Transaction(TransactionBody(sender, nonce, fee, Transfer(BOB, 1)), Signature(bytes(64)))


def get_zero(_sender: PublicKey) -> int:
    return 0


def test_orders_by_nonce_within_and_by_fee_between_accounts() -> None:
    pool = Mempool()
    for sender, nonce, fee in [(ALICE, 1, 900), (BOB, 0, 500), (ALICE, 0, 100), (BOB, 1, 50)]:
        assert pool.add(make_transaction(sender, nonce, fee), 0) is AddResult.ADDED
    order = [(t.body.sender, t.body.nonce) for t in pool.iter_candidates(get_zero)]
    assert order == [(BOB, 0), (ALICE, 0), (ALICE, 1), (BOB, 1)]


def test_a_gap_keeps_later_nonces_waiting() -> None:
    pool = Mempool()
    pool.add(make_transaction(ALICE, 1, 10), 0)
    assert list(pool.iter_candidates(get_zero)) == []
    assert pool.compute_next_nonce(ALICE, 0) == 0
    pool.add(make_transaction(ALICE, 0, 10), 0)
    assert pool.compute_next_nonce(ALICE, 0) == 2


def test_replacement_needs_a_tenth_more() -> None:
    pool = Mempool()
    pool.add(make_transaction(ALICE, 0, 1000), 0)
    assert pool.add(make_transaction(ALICE, 0, 1000), 0) is AddResult.ALREADY_KNOWN
    with pytest.raises(InvalidTransaction, match="replacement-fee"):
        pool.add(make_transaction(ALICE, 0, 1050), 0)
    assert pool.add(make_transaction(ALICE, 0, 2000), 0) is AddResult.REPLACED
    assert len(pool) == 1


@pytest.mark.parametrize("nonce", [4, 5 + 64, 2**64 - 1])
def test_nonces_outside_the_account_window_are_refused(nonce: int) -> None:
    with pytest.raises(InvalidTransaction, match="nonce"):
        Mempool().add(make_transaction(ALICE, nonce, 1), 5)


def test_a_full_pool_evicts_only_cheaper_tails() -> None:
    size = 1000
    pool = Mempool(bytes_max=size)
    with pytest.raises(InvalidTransaction, match="pool-full"):
        for _ in range(size):
            pool.add(make_transaction(PublicKey(os.urandom(32)), 0, 500), 0)
    before = len(pool)
    pool.add(make_transaction(ALICE, 0, 5000), 0)
    assert len(pool) <= before
    assert pool.size_bytes <= size


def test_a_new_head_drops_what_it_included() -> None:
    pool = Mempool()
    for nonce in range(3):
        pool.add(make_transaction(ALICE, nonce, 10), 0)
    pool.on_head(lambda _sender: 2)
    assert [t.body.nonce for t in pool.iter_candidates(lambda _sender: 2)] == [2]


def test_an_outdated_transaction_gives_its_nonce_back() -> None:
    pool = Mempool()
    for nonce in range(3):
        pool.add(make_transaction(ALICE, nonce, 10), 0)
    pool.drop_where(lambda transaction: transaction.body.nonce == 0)
    assert pool.compute_next_nonce(ALICE, 0) == 0
    assert list(pool.iter_candidates(get_zero)) == []
    pool.add(make_transaction(ALICE, 0, 20), 0)
    assert [t.body.nonce for t in pool.iter_candidates(get_zero)] == [0, 1, 2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 80), st.integers(0, 10_000)), max_size=120))
def test_bounds_and_books_hold_for_any_history(offers: list[tuple[int, int, int]]) -> None:
    pool = Mempool(bytes_max=4_000, account_transactions_max=16)
    for account, nonce, fee in offers:
        try:
            pool.add(make_transaction(PublicKey(bytes([account + 1]) * 32), nonce, fee), 0)
        except InvalidTransaction:
            continue
    assert pool.size_bytes <= 4_000
    taken = list(pool.iter_candidates(get_zero))
    for account in range(6):
        nonces = [t.body.nonce for t in taken if t.body.sender == bytes([account + 1]) * 32]
        assert nonces == list(range(len(nonces)))
