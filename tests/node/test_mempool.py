"""The pool keeps nonce order and fee order, and stays within its bounds whatever is offered."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidTransaction
from chain.header import Foliage, Header, Trunk
from chain.primitives import ZERO_HASH, PublicKey, Signature
from chain.ticket import EMPTY_TICKET
from chain.transaction import ReportEquivocation, Transaction, TransactionBody, Transfer
from node.mempool import AddResult, Mempool

ALICE, BOB, CAROL = (PublicKey(bytes([number]) * 32) for number in (1, 2, 3))


def make_sender(number: int) -> PublicKey:
    return PublicKey(bytes([200, number]) * 16)


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


def make_report(miner: PublicKey, sender: PublicKey, nonce: int = 0, fee: int = 0) -> Transaction:
    foliage = Foliage(1, 1, ZERO_HASH, 0, 1, miner, *([ZERO_HASH] * 4))
    header = Header(Trunk(EMPTY_TICKET, ZERO_HASH, 1), foliage, Signature(bytes(64)))
    report = ReportEquivocation(header, header, sender)
    return Transaction(TransactionBody(sender, nonce, fee, report), Signature(bytes(64)))


def test_reports_come_first_and_one_a_miner() -> None:
    pool = Mempool()
    pool.add(make_transaction(ALICE, 0, 10**9), 0)
    report = make_report(ALICE, BOB)
    assert pool.add(report, 0) is AddResult.ADDED
    assert pool.add(report, 0) is AddResult.ALREADY_KNOWN
    assert [t.body.sender for t in pool.iter_candidates(get_zero)] == [BOB, ALICE]
    with pytest.raises(InvalidTransaction, match="report-waiting"):
        pool.add(make_report(ALICE, CAROL), 0)
    pool.add(make_report(BOB, CAROL), 0)
    assert pool.add(make_transaction(BOB, 0, 10**6), 0) is AddResult.REPLACED
    pool.add(make_report(ALICE, make_sender(9)), 0)
    pool.drop_where(lambda transaction: isinstance(transaction.body.action, ReportEquivocation))
    pool.add(make_report(ALICE, CAROL), 0)


def test_a_flood_of_fees_does_not_push_a_report_out() -> None:
    pool = Mempool(bytes_max=5_000)
    pool.add(make_report(ALICE, BOB), 0)
    for number in range(60):
        pool.add(make_transaction(make_sender(number), 0, 1_000 + number), 0)
    assert next(pool.iter_candidates(get_zero)).body.sender == BOB
    full = Mempool(bytes_max=5_000)
    for number in range(60):
        full.add(make_transaction(make_sender(number), 0, 1_000 + number), 0)
    full.add(make_report(ALICE, BOB), 0)
    assert next(full.iter_candidates(get_zero)).body.sender == BOB


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
