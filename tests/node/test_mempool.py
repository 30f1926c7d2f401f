"""The pool keeps nonce order and fee order, and stays within its bounds whatever is offered."""

import os
from dataclasses import replace

import pytest

from chain.errors import InvalidTransaction
from chain.header import Foliage, Header, Trunk
from chain.ledger.weight import compute_weight
from chain.packed import PackedTransaction, pack_transaction
from chain.primitives import ZERO_HASH, PublicKey, Signature
from chain.ticket import EMPTY_TICKET
from chain.transaction import ProveContribution, ReportEquivocation, Transaction, TransactionBody, Transfer
from node import mempool
from node.mempool import AddResult, Mempool, PoolBounds

ALICE, BOB, CAROL = (PublicKey(bytes([number]) * 32) for number in (1, 2, 3))
DAY_MS = 24 * 3_600 * 1_000


def make_sender(number: int) -> PublicKey:
    return PublicKey(bytes([200, number]) * 16)


def make_transfer(sender: PublicKey, nonce: int, fee: int, amount: int = 1) -> PackedTransaction:
    body = TransactionBody(sender, nonce, fee, Transfer(BOB, amount))
    return pack_transaction(Transaction(body, Signature(bytes(64))))


def make_report(miner: PublicKey, sender: PublicKey, nonce: int = 0, fee: int = 0) -> PackedTransaction:
    foliage = Foliage(1, 1, ZERO_HASH, 0, 1, miner, *([ZERO_HASH] * 4))
    header = Header(Trunk(EMPTY_TICKET, ZERO_HASH, 1), foliage, Signature(bytes(64)))
    report = ReportEquivocation(header, header, sender)
    return pack_transaction(Transaction(TransactionBody(sender, nonce, fee, report), Signature(bytes(64))))


def make_proof(sender: PublicKey, nonce: int, fee: int, round_number: int, size_bytes: int = 100) -> PackedTransaction:
    openings = (bytes(min(size_bytes, 60_000)),) * max(1, size_bytes // 60_000)
    body = TransactionBody(sender, nonce, fee, ProveContribution(ZERO_HASH, round_number, 0, openings))
    return pack_transaction(Transaction(body, Signature(bytes(64))))


def add(pool: Mempool, *offers: PackedTransaction) -> AddResult:
    results = [pool.add(packed, 0, 0) for packed in offers]
    return results[-1]


def list_order(pool: Mempool) -> list[tuple[PublicKey, int]]:
    bodies = [packed.transaction.body for packed in pool.iter_candidates()]
    return [(body.sender, body.nonce) for body in bodies]


def refuse(pool: Mempool, packed: PackedTransaction, nonce: int = 0) -> str:
    """Return the rule by which the pool refuses, after checking that it is as it was."""
    before = (len(pool), pool.size_bytes, list_order(pool))
    with pytest.raises(InvalidTransaction) as refusal:
        pool.add(packed, nonce, 0)
    assert (len(pool), pool.size_bytes, list_order(pool)) == before
    return refusal.value.rule


def test_orders_by_nonce_within_and_by_fee_between_accounts() -> None:
    pool = Mempool()
    for sender, nonce, fee in [(ALICE, 1, 900), (BOB, 0, 500), (ALICE, 0, 100), (BOB, 1, 50)]:
        assert add(pool, make_transfer(sender, nonce, fee)) is AddResult.ADDED
    assert list_order(pool) == [(BOB, 0), (ALICE, 0), (ALICE, 1), (BOB, 1)]


def test_a_proof_pays_for_the_work_that_it_makes() -> None:
    """A proof as large as a transfer and with ten times its fee still comes after it."""
    proof, transfer = make_proof(ALICE, 0, 10_000, 0, size_bytes=10), make_transfer(BOB, 0, 1_000)
    assert len(proof.data) < 2 * len(transfer.data)
    assert compute_weight(proof.transaction, len(proof.data)) > 20 * compute_weight(transfer.transaction, 144)
    pool = Mempool()
    add(pool, proof, transfer)
    assert list_order(pool) == [(BOB, 0), (ALICE, 0)]


def test_reports_come_first_and_one_a_miner() -> None:
    pool = Mempool()
    report = make_report(ALICE, BOB)
    assert add(pool, make_transfer(ALICE, 0, 10**9), report) is AddResult.ADDED
    assert add(pool, report) is AddResult.ALREADY_KNOWN
    assert list_order(pool) == [(BOB, 0), (ALICE, 0)]
    assert refuse(pool, make_report(ALICE, CAROL)) == "report-waiting"
    add(pool, make_report(BOB, CAROL))
    assert add(pool, make_transfer(BOB, 0, 10**6)) is AddResult.REPLACED
    add(pool, make_report(ALICE, make_sender(9)))
    pool.drop_passing(lambda transaction: isinstance(transaction.body.action, ReportEquivocation))
    add(pool, make_report(ALICE, CAROL))


def test_a_flood_of_fees_does_not_push_a_report_out() -> None:
    pool, full = Mempool(PoolBounds(bytes_max=5_000)), Mempool(PoolBounds(bytes_max=5_000))
    add(pool, make_report(ALICE, BOB))
    for number in range(27):
        add(pool, make_transfer(make_sender(number), 0, 1_000 + number))
        add(full, make_transfer(make_sender(number), 0, 1_000 + number))
    assert list_order(pool)[0] == (BOB, 0)
    add(full, make_report(ALICE, BOB))
    assert list_order(full)[0] == (BOB, 0)


def test_a_gap_keeps_later_nonces_waiting() -> None:
    pool = Mempool()
    add(pool, make_transfer(ALICE, 1, 10))
    assert list_order(pool) == []
    assert pool.compute_next_nonce(ALICE, 0) == 0
    add(pool, make_transfer(ALICE, 0, 10))
    assert pool.compute_next_nonce(ALICE, 0) == 2
    assert list_order(pool) == [(ALICE, 0), (ALICE, 1)]


def test_replacement_needs_a_tenth_more() -> None:
    pool = Mempool()
    add(pool, make_transfer(ALICE, 0, 1000))
    assert add(pool, make_transfer(ALICE, 0, 1000)) is AddResult.ALREADY_KNOWN
    assert refuse(pool, make_transfer(ALICE, 0, 1050)) == "replacement-fee"
    assert add(pool, make_transfer(ALICE, 0, 2000)) is AddResult.REPLACED
    assert len(pool) == 1
    assert [packed.transaction.body.fee for packed in pool.iter_candidates()] == [2000]
    assert pool.drops.counts["replaced"] == 1


def test_a_replacement_that_is_smaller_pays_no_less() -> None:
    """A dearer rate on fewer bytes must not lower what the block earns."""
    pool = Mempool()
    add(pool, make_proof(ALICE, 0, 50_000, 0, size_bytes=50_000))
    assert refuse(pool, make_transfer(ALICE, 0, 49_999)) == "replacement-fee"
    assert add(pool, make_transfer(ALICE, 0, 50_000)) is AddResult.REPLACED


@pytest.mark.parametrize("nonce", [4, 5 + 64, 2**64 - 1])
def test_nonces_outside_the_account_window_are_refused(nonce: int) -> None:
    assert refuse(Mempool(), make_transfer(ALICE, nonce, 1), nonce=5) == "nonce"


def test_a_full_pool_evicts_only_what_is_worth_less() -> None:
    pool = Mempool(PoolBounds(bytes_max=1000))
    for number in range(6):
        add(pool, make_transfer(make_sender(number), 0, 500 + number))
    assert refuse(pool, make_transfer(ALICE, 0, 500)) == "pool-full"
    add(pool, make_transfer(ALICE, 0, 503))
    assert list_order(pool)[-1] == (make_sender(1), 0)
    assert (len(pool), pool.drops.counts["evicted"]) == (6, 1)
    with pytest.raises(InvalidTransaction, match="pool-full"):
        pool.validate_price(make_transfer(BOB, 0, 400))
    pool.validate_price(make_transfer(BOB, 0, 600))


def test_a_dear_tail_does_not_protect_the_cheap_ones_before_it() -> None:
    pool = Mempool(PoolBounds(bytes_max=900))
    for nonce, fee in enumerate((10, 10, 10, 10, 10, 10**9)):
        add(pool, make_transfer(ALICE, nonce, fee))
    add(pool, make_transfer(BOB, 0, 500))
    assert list_order(pool) == [(BOB, 0), *((ALICE, nonce) for nonce in range(5))]
    assert refuse(pool, make_transfer(ALICE, 5, 10**9)) == "pool-full", "it cannot be mined before what costs 10"


def test_what_finds_no_room_leaves_all_others_in() -> None:
    """A large one is dearer than the cheapest, but not dearer than all that would have to go for it."""
    pool = Mempool(PoolBounds(bytes_max=10_000))
    add(pool, *(make_transfer(make_sender(number), 0, 100 * (number + 1)) for number in range(60)))
    assert refuse(pool, make_proof(ALICE, 0, 30_000, 0, size_bytes=9_000)) == "pool-full"
    assert pool.drops.counts["evicted"] == 0


def test_one_transaction_pushes_out_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool, "EVICTIONS_MAX", 3)
    pool = Mempool(PoolBounds(bytes_max=1500))
    add(pool, *(make_transfer(make_sender(number), 0, 1) for number in range(10)))
    assert refuse(pool, make_proof(ALICE, 0, 10**9, 0, size_bytes=1_300)) == "pool-full"
    add(pool, make_proof(ALICE, 0, 10**9, 0, size_bytes=400))


def test_a_replacement_in_a_full_pool_that_fails_keeps_what_it_would_replace() -> None:
    pool = Mempool(PoolBounds(bytes_max=1_000))
    add(pool, make_transfer(ALICE, 0, 100), *(make_transfer(make_sender(n), 0, 10**6) for n in range(5)))
    assert refuse(pool, make_proof(ALICE, 0, 10**5, 0, size_bytes=700)) == "pool-full"
    assert list_order(pool)[-1] == (ALICE, 0)


def test_a_new_head_drops_what_it_included_of_the_accounts_it_touched() -> None:
    pool = Mempool()
    add(pool, *(make_transfer(ALICE, nonce, 10) for nonce in range(3)), make_transfer(CAROL, 0, 5))
    pool.on_head({ALICE: 2, BOB: 7}, 1, 0)
    assert list_order(pool) == [(ALICE, 2), (CAROL, 0)]
    assert pool.drops.counts["included"] == 2


def test_a_head_that_goes_back_waits_for_what_was_on_the_blocks_left() -> None:
    pool = Mempool()
    pool.add(make_transfer(ALICE, 2, 10), 2, 0)
    pool.on_head({ALICE: 1}, 1, 0)
    assert list_order(pool) == []
    pool.add(make_transfer(ALICE, 1, 10), 1, 0)
    assert list_order(pool) == [(ALICE, 1), (ALICE, 2)]


def test_what_waits_too_long_is_let_go() -> None:
    pool = Mempool(PoolBounds(wait_blocks_max=10, wait_ms_max=DAY_MS))
    pool.on_head({}, 100, 0)
    pool.add(make_transfer(ALICE, 0, 10), 0, 0)
    pool.on_head({}, 109, 0)
    pool.add(make_transfer(BOB, 0, 10), 0, DAY_MS // 2)
    assert len(pool) == 2
    pool.on_head({}, 110, DAY_MS - 1)
    assert list_order(pool) == [(BOB, 0)], "ten blocks have left it out"
    pool.on_head({}, 111, DAY_MS + DAY_MS // 2 - 1)
    assert len(pool) == 1
    pool.on_head({}, 112, DAY_MS + DAY_MS // 2)
    assert (len(pool), pool.size_bytes, pool.drops.counts["expired"]) == (0, 0, 2)


def test_an_outdated_transaction_gives_its_nonce_back() -> None:
    pool = Mempool()
    add(pool, make_proof(ALICE, 0, 10, round_number=3), make_transfer(ALICE, 1, 10), make_transfer(ALICE, 2, 10))
    pool.drop_passing(lambda _transaction: True)
    assert pool.compute_next_nonce(ALICE, 0) == 0
    assert list_order(pool) == [], "a transfer is never outdated, but waits for the nonce before it"
    add(pool, make_transfer(ALICE, 0, 20))
    assert [nonce for _, nonce in list_order(pool)] == [0, 1, 2]


def test_dropping_a_stranger_does_nothing() -> None:
    pool = Mempool()
    packed = make_transfer(ALICE, 0, 10)
    add(pool, packed)
    pool.drop(replace(packed, hash=ZERO_HASH).hash)
    assert pool.get(packed.hash) is packed
    pool.drop(packed.hash)
    assert (pool.get(packed.hash), len(pool), pool.size_bytes) == (None, 0, 0)


def test_leftovers_of_the_orders_are_swept() -> None:
    """Accounts that come and go, and replacements, must not grow the heaps without end."""
    pool = Mempool(PoolBounds(bytes_max=2_000))
    for number in range(3_000):
        add(pool, make_transfer(PublicKey(os.urandom(32)), 0, 1_000 + number))
    assert len(pool) < 20
    last = make_transfer(ALICE, 1, 10**6)
    add(pool, make_transfer(ALICE, 0, 10**6))
    for _ in range(1_000):
        add(pool, last)
        pool.drop(last.hash)
    assert max(len(order._heap) for order in (pool._heads, pool._tails)) < 200


def test_an_account_is_worth_more_once_its_cheap_one_is_replaced() -> None:
    pool = Mempool(PoolBounds(bytes_max=450))
    add(pool, make_transfer(ALICE, 0, 10), make_transfer(ALICE, 1, 5_000), make_transfer(BOB, 0, 1_000))
    add(pool, make_transfer(ALICE, 0, 5_000))
    add(pool, make_transfer(CAROL, 0, 2_000))
    assert list_order(pool) == [(ALICE, 0), (ALICE, 1), (CAROL, 0)]
