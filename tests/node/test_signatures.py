"""Signatures are verified once: nothing but the very same signed transaction is taken unseen."""

import threading
from dataclasses import replace

import pytest

from chain.errors import InvalidTransaction
from chain.ledger import transactions
from chain.ledger.transactions import verify_signatures
from chain.packed import PackedTransaction, pack_transaction
from chain.primitives import ZERO_HASH, PublicKey, Signature
from chain.signature import SigningKey, verify_signature
from chain.transaction import Transaction, TransactionBody, Transfer
from node import signatures as module
from node.signatures import Signatures
from node.threads import spread_in_line, spread_over_threads
from tests.support.ledger import ALICE, BOB, DAVE, LedgerChain

CHAIN = LedgerChain()
CHAIN_ID = CHAIN.context.chain_id


def make_many(count: int) -> list[PackedTransaction]:
    return [pack_transaction(CHAIN.sign(DAVE, Transfer(BOB.public_key, n + 1), nonce=n)) for n in range(count)]


def forge(packed: PackedTransaction) -> PackedTransaction:
    return pack_transaction(replace(packed.transaction, signature=Signature(packed.transaction.signature[::-1])))


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The messages that were really verified."""
    messages: list[bytes] = []
    lock = threading.Lock()

    def verify(key: PublicKey, message: bytes, signature: Signature) -> bool:
        with lock:
            messages.append(message)
        return verify_signature(key, message, signature)

    monkeypatch.setattr(transactions, "verify_signature", verify)
    return messages


@pytest.mark.parametrize("threads", [1, 3])
def test_each_signature_is_verified_once(threads: int, verified: list[bytes]) -> None:
    signatures, many = Signatures(CHAIN_ID, spread_over_threads(threads)), make_many(50)
    signatures.verify(CHAIN_ID, many[:30])
    signatures.verify(CHAIN_ID, many)
    assert sorted(verified) == sorted(packed.compute_signing_hash(CHAIN_ID) for packed in many)
    assert signatures.lookups.counts == {"hit": 30, "miss": 50}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_at_fault_is_named_as_without_threads(threads: int) -> None:
    many = make_many(40)
    many[17], many[31] = forge(many[17]), forge(many[31])
    with pytest.raises(InvalidTransaction) as plain:
        verify_signatures(CHAIN_ID, many)
    with pytest.raises(InvalidTransaction) as spread:
        Signatures(CHAIN_ID, spread_over_threads(threads)).verify(CHAIN_ID, many)
    assert str(plain.value) == str(spread.value)
    assert "transaction 17 " in str(spread.value)


def test_a_remembered_transaction_vouches_for_no_other(verified: list[bytes]) -> None:
    """Same signature under another body, same body under another signature or sender: all are verified and refused."""
    signatures, (good,) = Signatures(CHAIN_ID, spread_in_line), make_many(1)
    signatures.verify(CHAIN_ID, [good])
    body = good.transaction.body
    poison = [
        replace(good.transaction, body=replace(body, fee=body.fee + 1)),
        replace(good.transaction, body=replace(body, nonce=body.nonce + 1)),
        replace(good.transaction, body=replace(body, sender=ALICE.public_key)),
        replace(good.transaction, body=replace(body, action=Transfer(ALICE.public_key, 1))),
        forge(good).transaction,
        replace(good.transaction, signature=Signature(good.transaction.signature[:63] + b"\x00")),
    ]
    verified.clear()
    errors = signatures.find_errors([pack_transaction(transaction) for transaction in poison])
    assert all(error is not None and error.rule == "signature" for error in errors)
    assert len(verified) == len(poison)
    assert signatures.find_errors([good]) == [None]


def test_a_signature_for_another_chain_does_not_hold() -> None:
    body = TransactionBody(DAVE.public_key, 0, 0, Transfer(BOB.public_key, 1))
    elsewhere = pack_transaction(Transaction(body, DAVE.sign(ZERO_HASH)))
    assert Signatures(CHAIN_ID, spread_in_line).find_errors([elsewhere])[0] is not None
    with pytest.raises(AssertionError):
        Signatures(CHAIN_ID, spread_in_line).verify(ZERO_HASH, make_many(1))


def test_a_failure_is_not_remembered(verified: list[bytes]) -> None:
    signatures, forged = Signatures(CHAIN_ID, spread_in_line), forge(make_many(1)[0])
    for _ in range(2):
        with pytest.raises(InvalidTransaction):
            signatures.verify(CHAIN_ID, [forged])
    assert len(verified) == 2


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(verified: list[bytes]) -> None:
    signatures, many = Signatures(CHAIN_ID, spread_in_line, remembered_max=10), make_many(25)
    signatures.verify(CHAIN_ID, many)
    assert len(signatures._remembered) == 10
    verified.clear()
    signatures.verify(CHAIN_ID, many[15:])
    assert not verified
    signatures.verify(CHAIN_ID, many[14:15])
    assert len(verified) == 1


def test_few_signatures_wake_no_thread() -> None:
    def refuse(_work: object, _n: int) -> None:
        raise AssertionError("threads were woken")

    Signatures(CHAIN_ID, refuse).verify(CHAIN_ID, make_many(module.SPREAD_MIN - 1))
    with pytest.raises(AssertionError, match="woken"):
        Signatures(CHAIN_ID, refuse).verify(CHAIN_ID, make_many(module.SPREAD_MIN))


def test_several_threads_may_ask_at_once() -> None:
    signatures, many = Signatures(CHAIN_ID, spread_over_threads(2), remembered_max=64), make_many(120)
    failures: list[BaseException] = []

    def ask(start: int) -> None:
        try:
            for _ in range(3):
                signatures.verify(CHAIN_ID, many[start : start + 60])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(start,)) for start in (0, 30, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(signatures._remembered) <= 64


def test_a_key_that_is_no_point_is_refused() -> None:
    body = TransactionBody(PublicKey(bytes(32)), 0, 0, Transfer(BOB.public_key, 1))
    packed = pack_transaction(Transaction(body, SigningKey(bytes(32)).sign(b"")))
    assert Signatures(CHAIN_ID, spread_in_line).find_errors([packed])[0] is not None
