"""What names a transaction, what its sender signs, and the bytes its largest forms take.

Covers threat 14 as far as bytes go: a signature is for one chain, one nonce, one action.
"""

from dataclasses import replace

import pytest

from chain.block import Block, compute_transactions_root, get_sidecar_hashes
from chain.codec import decode, encode
from chain.errors import DecodeError
from chain.hashing import tagged_hash, tagged_key
from chain.header import Foliage, Header, Trunk
from chain.merkle import compute_root
from chain.primitives import ZERO_HASH, Hash, PublicKey, Signature
from chain.ticket import EMPTY_TICKET, TicketOpening
from chain.transaction import (
    OPENING_BYTES_MAX,
    SIDECAR_BYTES_MAX,
    TRANSACTION_BYTES_MAX,
    CommitContribution,
    ProveContribution,
    Sidecar,
    Transaction,
    TransactionBody,
    Transfer,
    compute_sidecar_hash,
    compute_signing_hash,
    compute_transaction_hash,
)

ALICE, BOB = PublicKey(b"\x01" * 32), PublicKey(b"\x02" * 32)
CHAIN = Hash(b"\x08" * 32)
COMMIT = CommitContribution(CHAIN, 1, 0, 7, *(Hash(bytes([number]) * 32) for number in (6, 3, 4, 5)))
BODY = TransactionBody(ALICE, 3, 5, Transfer(BOB, 11))


def sign(body: TransactionBody) -> Transaction:
    return Transaction(body, Signature(b"\x09" * 64))


@pytest.mark.parametrize(
    "other",
    [
        replace(BODY, sender=BOB),
        replace(BODY, nonce=4),
        replace(BODY, fee=6),
        replace(BODY, action=Transfer(BOB, 12)),
        replace(BODY, action=Transfer(ALICE, 11)),
        replace(BODY, action=COMMIT),
        replace(BODY, action=ProveContribution(CHAIN, 1, 0, ())),
    ],
)
def test_each_part_of_the_body_is_signed_and_named(other: TransactionBody) -> None:
    assert compute_signing_hash(CHAIN, other) != compute_signing_hash(CHAIN, BODY)
    assert compute_transaction_hash(sign(other)) != compute_transaction_hash(sign(BODY))


def test_a_signature_is_for_one_chain() -> None:
    assert compute_signing_hash(CHAIN, BODY) != compute_signing_hash(ZERO_HASH, BODY)


def test_the_signature_is_part_of_the_name() -> None:
    other = Transaction(BODY, Signature(bytes(64)))
    assert compute_transaction_hash(other) != compute_transaction_hash(sign(BODY))


def test_actions_of_equal_bytes_differ_by_their_tag() -> None:
    assert encode(sign(BODY)) != encode(sign(replace(BODY, action=COMMIT)))
    assert decode(Transaction, encode(sign(BODY)), TRANSACTION_BYTES_MAX).body.action == Transfer(BOB, 11)


def test_openings_are_bounded_one_by_one_and_together() -> None:
    full = replace(BODY, action=ProveContribution(CHAIN, 1, 0, (bytes(OPENING_BYTES_MAX),) * 8))
    data = encode(sign(full))
    assert decode(Transaction, data, TRANSACTION_BYTES_MAX) == sign(full)
    too_many = replace(BODY, action=ProveContribution(CHAIN, 1, 0, (bytes(OPENING_BYTES_MAX),) * 11))
    with pytest.raises(DecodeError, match="expected at most"):
        decode(Transaction, encode(sign(too_many)), TRANSACTION_BYTES_MAX)
    for openings in ((bytes(OPENING_BYTES_MAX + 1),), (b"",), (b"x",) * 65):
        with pytest.raises(DecodeError):
            encode(sign(replace(BODY, action=ProveContribution(CHAIN, 1, 0, openings))))


def test_a_sidecar_is_named_by_all_of_it() -> None:
    sidecar = Sidecar(bytes(64), b"delta")
    others = [Sidecar(bytes(64), b"delt"), Sidecar(bytes(32) + b"\x01" * 32, b"delta"), Sidecar(bytes(96), b"delta")]
    names = {compute_sidecar_hash(item) for item in [sidecar, *others]}
    assert len(names) == 4
    with pytest.raises(DecodeError, match="expected at most"):
        decode(Sidecar, encode(Sidecar(bytes(SIDECAR_BYTES_MAX), b"x")), SIDECAR_BYTES_MAX)


def test_a_block_lists_its_sidecars_and_pins_the_order_of_transactions() -> None:
    second = replace(COMMIT, index=1, sidecar_hash=Hash(b"\x06" * 32))
    items = tuple(sign(replace(BODY, action=action)) for action in (COMMIT, Transfer(BOB, 1), second))
    foliage = Foliage(1, 1, CHAIN, 1, 1, ALICE, CHAIN, compute_transactions_root(items), CHAIN, CHAIN)
    header = Header(Trunk(EMPTY_TICKET, CHAIN, 1), foliage, Signature(bytes(64)))
    assert get_sidecar_hashes(Block(header, TicketOpening((), ()), items)) == (COMMIT.sidecar_hash, second.sidecar_hash)
    assert compute_transactions_root(items) == compute_root([encode(item) for item in items])
    assert compute_transactions_root(items[::-1]) != compute_transactions_root(items)


def test_hashes_have_one_purpose_and_one_cut() -> None:
    assert tagged_hash("a", b"xy") != tagged_hash("b", b"xy")
    assert len({tagged_hash("a", b"xy"), tagged_hash("a", b"x", b"y"), tagged_hash("a", b"xy", b"")}) == 3
    assert tagged_key("a") != tagged_key("b")
