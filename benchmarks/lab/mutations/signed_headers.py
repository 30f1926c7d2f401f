"""What a key's owner, and whoever has none, can do to a signed header: alter it and sign again, or bend a signature.

State root, transactions root and a time within bounds are the winner's to choose, so another value of these is another
valid header; they are never altered here. It knows no rule beyond that.
"""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import TypeVar

from benchmarks.lab.mutations.wire_mutators import BOUNDARIES
from chain.header import Foliage, Header, Trunk, compute_signing_hash, compute_trunk_hash
from chain.primitives import Hash, Signature
from chain.signature import SigningKey

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point: S and S + GROUP_ORDER satisfy the same equation."""

TICKET_BITS: Mapping[str, int] = {
    **dict.fromkeys(("index", "op", "window"), 16),
    **dict.fromkeys(("round", "step", "lap", "tile_row", "tile_column"), 32),
    **dict.fromkeys(("task", "root_a", "root_b", "digest"), 0),
    "anchor_height": 64,
}
"""Fields of a ticket with the bits of an integer, 0 for bytes."""

FOLIAGE_BITS: Mapping[str, int] = {
    **dict.fromkeys(("parent_hash", "miner", "trunk_hash", "history_root"), 0),
    "version": 16,
    "height": 64,
    "target": 256,
}
"""Fields of a foliage that its winner cannot choose."""

R = TypeVar("R")


def alter_bytes(rng: Random, value: bytes) -> bytes:
    """Return other bytes of the same size: a bit turned, all of one kind, or chance."""
    place, bit = rng.randrange(len(value)), 1 << rng.randrange(8)
    turned = value[:place] + bytes([value[place] ^ bit]) + value[place + 1 :]
    found = rng.choice((turned, bytes(len(value)), b"\xff" * len(value), rng.randbytes(len(value))))
    return found if found != value else turned


def alter_integer(rng: Random, value: int, bits: int) -> int:
    """Return another integer of that width: beside the value, at a bound, or any."""
    limit = 1 << bits
    near = ((value + 1) % limit, (value - 1) % limit)
    bounds = [bound for bound in BOUNDARIES if 0 <= bound < limit]
    found: int = rng.choice((*near, *bounds, rng.randrange(limit)))
    return found if found != value else near[0]


def alter_field(rng: Random, record: R, bits_by_field: Mapping[str, int]) -> R:
    """Return a record with one of these fields altered."""
    name = rng.choice(sorted(bits_by_field))
    value, bits = getattr(record, name), bits_by_field[name]
    altered = alter_integer(rng, value, bits) if bits else alter_bytes(rng, value)
    changed: R = replace(record, **{name: altered})  # type: ignore[type-var]  # any record
    return changed


def sign(chain_id: Hash, key: SigningKey, trunk: Trunk, foliage: Foliage) -> Header:
    """Return the header that `key` signs."""
    return Header(trunk, foliage, key.sign(compute_signing_hash(chain_id, foliage)))


def restate(chain_id: Hash, key: SigningKey, trunk: Trunk, foliage: Foliage) -> Header:
    """Return the header that `key` signs when the foliage names the trunk as it is."""
    return sign(chain_id, key, trunk, replace(foliage, trunk_hash=compute_trunk_hash(trunk)))


def bend_signature(rng: Random, header: Header) -> Header:
    """Return the header under a signature that nobody made and some verifiers take: S + L, or parts of small order."""
    point, scalar = header.signature[:32], header.signature[32:]
    stretched = (int.from_bytes(scalar, "little") + GROUP_ORDER) % 2**256
    small = rng.choice((bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"))
    bent = rng.choice(
        (
            point + stretched.to_bytes(32, "little"),
            small + scalar,
            small + bytes(32),
            point[:31] + bytes([point[31] ^ 0x80]) + scalar,
        )
    )
    return replace(header, signature=Signature(bent))
