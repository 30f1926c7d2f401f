"""What each hash of a header covers: every field of it, and nothing that can be changed for free.

Covers threats 51 and 59 as far as bytes go: a signature changes no name, and content hangs on the signed foliage.
"""

from dataclasses import fields, replace

import pytest

from chain import header as rules
from chain.codec import decode, encode
from chain.header import HEADER_BYTES_MAX, Foliage, Header, Trunk
from chain.primitives import U256_MAX, Hash, PublicKey, Signature
from chain.ticket import EMPTY_TICKET, Ticket

TRUNK = Trunk(EMPTY_TICKET, Hash(b"\x01" * 32), 7)
FOLIAGE = Foliage(
    version=1,
    height=9,
    parent_hash=Hash(b"\x02" * 32),
    timestamp_ms=1_700_000_000_000,
    target=2**240,
    miner=PublicKey(b"\x03" * 32),
    state_root=Hash(b"\x04" * 32),
    transactions_root=Hash(b"\x05" * 32),
    trunk_hash=rules.compute_trunk_hash(TRUNK),
    history_root=Hash(b"\x06" * 32),
)
HEADER = Header(TRUNK, FOLIAGE, Signature(b"\x07" * 64))
CHAIN = Hash(b"\x08" * 32)


def bend(value: object) -> object:
    """Return another value of the same kind."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    assert isinstance(value, Ticket)
    return replace(value, lap=value.lap + 1)


@pytest.mark.parametrize("name", [field.name for field in fields(Foliage)])
def test_each_foliage_field_moves_both_hashes(name: str) -> None:
    bent = replace(FOLIAGE, **{name: bend(getattr(FOLIAGE, name))})  # type: ignore[arg-type]  # one field, chosen by name
    assert rules.compute_header_hash(replace(HEADER, foliage=bent)) != rules.compute_header_hash(HEADER)
    assert rules.compute_signing_hash(CHAIN, bent) != rules.compute_signing_hash(CHAIN, FOLIAGE)


@pytest.mark.parametrize("name", [field.name for field in fields(Trunk)])
def test_each_trunk_field_moves_the_trunk_hash(name: str) -> None:
    bent = replace(TRUNK, **{name: bend(getattr(TRUNK, name))})  # type: ignore[arg-type]  # one field, chosen by name
    assert rules.compute_trunk_hash(bent) != rules.compute_trunk_hash(TRUNK)


@pytest.mark.parametrize("name", [field.name for field in fields(Ticket)])
def test_each_ticket_field_moves_the_trunk_hash(name: str) -> None:
    bent = replace(EMPTY_TICKET, **{name: bend(getattr(EMPTY_TICKET, name))})  # type: ignore[arg-type]  # by name
    assert rules.compute_trunk_hash(replace(TRUNK, ticket=bent)) != rules.compute_trunk_hash(TRUNK)


def test_another_signature_is_the_same_block() -> None:
    assert rules.compute_header_hash(replace(HEADER, signature=Signature(bytes(64)))) == rules.compute_header_hash(
        HEADER
    )


def test_a_signature_is_for_one_chain_and_one_purpose() -> None:
    assert rules.compute_signing_hash(CHAIN, FOLIAGE) != rules.compute_signing_hash(Hash(bytes(32)), FOLIAGE)
    assert rules.compute_signing_hash(CHAIN, FOLIAGE) != rules.compute_header_hash(HEADER)


def test_the_beacon_follows_parent_and_ticket_alone() -> None:
    one, two = Hash(b"\x01" * 32), Hash(b"\x02" * 32)
    assert len({rules.compute_beacon(a, b) for a in (one, two) for b in (one, two)}) == 4


def test_the_largest_header_fits_its_limit() -> None:
    top = Hash(b"\xff" * 32)
    ticket = Ticket(
        task=top, round=2**32 - 1, anchor_height=2**64 - 1, index=2**16 - 1, step=2**32 - 1, op=2**16 - 1,
        lap=2**32 - 1, tile_row=2**32 - 1, tile_column=2**32 - 1, window=2**16 - 1, root_a=top, root_b=top, digest=top,
    )  # fmt: skip
    foliage = Foliage(2**16 - 1, 2**64 - 1, top, 2**64 - 1, U256_MAX, PublicKey(top), top, top, top, top)
    largest = Header(Trunk(ticket, top, U256_MAX), foliage, Signature(b"\xff" * 64))
    assert len(encode(largest)) <= HEADER_BYTES_MAX
    assert decode(Header, encode(largest), HEADER_BYTES_MAX) == largest
    assert largest.height == 2**64 - 1
