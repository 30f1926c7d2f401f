"""Single headers on their parents, as peers announce them: judged by every rule that needs no opening.

The attacker may be the winner, who signs again whatever it alters. Tickets are stubs, so places and roots of operands
are not among what is altered: only their opening could tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from random import Random

from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.signed_headers import FOLIAGE_BITS, alter_field, bend_signature, restate, sign
from benchmarks.lab.mutations.target import Attempt, Forgery, Sample, Target
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from benchmarks.synthetic_chain import KEYS, grow, make_context, make_genesis_entry
from chain.codec import decode, encode
from chain.header import HEADER_BYTES_MAX, Header
from chain.primitives import Hash
from chain.signature import SigningKey
from consensus.header_chain import ChainEntry
from consensus.header_rules import HeaderContext, compute_timestamp_min, validate_header

BLOCKS = 240
STRANGER = SigningKey(b"\x77" * 32)
"""Registered nowhere."""


@dataclass(frozen=True, slots=True)
class Network:
    """A synthetic chain with its rules."""

    context: HeaderContext
    genesis: ChainEntry
    tip: ChainEntry

    @property
    def now_ms(self) -> int:
        """The verifier's clock."""
        return self.tip.header.foliage.timestamp_ms


@cache
def make_network() -> Network:
    """Return the one chain of these targets."""
    context = make_context()
    genesis = make_genesis_entry(context)
    return Network(context, genesis, grow(context, genesis, BLOCKS))


def get_key(header: Header) -> SigningKey:
    """Return the key of a header's miner."""
    return next(key for key in KEYS if key.public_key == header.foliage.miner)


@dataclass(frozen=True, slots=True)
class Scene:
    """A header to be shown on its parent."""

    network: Network
    parent: ChainEntry
    header: Header

    def judge(self, data: bytes) -> None:
        """Check bytes as a header on the parent; raises as a judge does."""
        header = decode(Header, data, HEADER_BYTES_MAX)
        validate_header(self.network.context, header, self.parent, self.network.now_ms)

    def show(self, header: Header) -> Attempt:
        """Return the attempt to show another header."""
        return Attempt(encode(header), self.judge)


def make_samples() -> tuple[Sample, ...]:
    """Return headers from all over the chain."""
    network, samples = make_network(), []
    for height in (1, 2, 12, 101, BLOCKS // 2, BLOCKS):
        entry = network.tip.get_ancestor(height)
        assert entry.parent is not None
        scene = Scene(network, entry.parent, entry.header)
        samples.append(Sample(scene.show(scene.header), _make_forgeries(scene)))
    return tuple(samples)


def _make_forgeries(scene: Scene) -> Mapping[str, Forgery]:
    forgeries = {
        "ticket altered, signed again": alter_ticket,
        "trunk altered, signed again": alter_trunk,
        "foliage altered, signed again": alter_foliage,
        "time out of bounds, signed": alter_time,
        "signature bent": bend,
        "signed by a stranger": sign_as_stranger,
    }
    return {name: partial(forge, scene) for name, forge in forgeries.items()}


def alter_ticket(scene: Scene, rng: Random) -> Attempt:
    """Name another task, round or digest, a segment beyond the cap, or an anchor that does not count."""
    ticket, parameters = scene.header.trunk.ticket, scene.network.context.genesis.parameters
    height = scene.parent.height
    # Genesis anchors the first blocks' tickets too; from there on the parent's own beacon comes too late.
    too_late = rng.choice((max(1, height), height + 1, 2**64 - 1))
    altered = rng.choice(
        (
            replace(ticket, task=Hash(rng.randbytes(32))),
            replace(ticket, round=ticket.round ^ 1 << rng.randrange(32)),
            replace(ticket, digest=Hash(b"\xff" + rng.randbytes(31))),
            replace(ticket, index=rng.randrange(parameters.segments_per_round, 2**16)),
            replace(ticket, anchor_height=too_late),
        )
    )
    trunk = replace(scene.header.trunk, ticket=altered)
    return scene.show(restate(_get_chain_id(scene), get_key(scene.header), trunk, scene.header.foliage))


def alter_trunk(scene: Scene, rng: Random) -> Attempt:
    """Claim other work or another beacon."""
    trunk = alter_field(rng, scene.header.trunk, {"beacon": 0, "total_work": 256})
    return scene.show(restate(_get_chain_id(scene), get_key(scene.header), trunk, scene.header.foliage))


def alter_foliage(scene: Scene, rng: Random) -> Attempt:
    """Alter what the winner cannot choose, and sign it."""
    foliage = alter_field(rng, scene.header.foliage, FOLIAGE_BITS)
    return scene.show(sign(_get_chain_id(scene), get_key(scene.header), scene.header.trunk, foliage))


def alter_time(scene: Scene, rng: Random) -> Attempt:
    """Sign a time before the median, or beyond the clock's lead."""
    network = scene.network
    earliest_ms = compute_timestamp_min(network.context, scene.parent)
    latest_ms = network.now_ms + network.context.genesis.parameters.future_ms_max
    ahead_ms, behind_ms = 1 << rng.randrange(40), 1 << rng.randrange(40)
    timestamp_ms = rng.choice((earliest_ms - behind_ms, latest_ms + ahead_ms, 0, 2**64 - 1))
    foliage = replace(scene.header.foliage, timestamp_ms=timestamp_ms)
    return scene.show(sign(_get_chain_id(scene), get_key(scene.header), scene.header.trunk, foliage))


def bend(scene: Scene, rng: Random) -> Attempt:
    """Put another signature there, which nobody made."""
    return scene.show(bend_signature(rng, scene.header))


def sign_as_stranger(scene: Scene, rng: Random) -> Attempt:
    """Sign under the winner's name; under another's the ticket tells, which no header shows."""
    # Every try needs other bytes; what a winner may choose, a thief may too.
    foliage = replace(scene.header.foliage, state_root=Hash(rng.randbytes(32)))
    return scene.show(sign(_get_chain_id(scene), STRANGER, scene.header.trunk, foliage))


def _get_chain_id(scene: Scene) -> Hash:
    return scene.network.context.chain_id


TARGET_OF_HEADERS = Target(
    "headers",
    "a header on a known parent, to every node and light client",
    make_samples,
    BYTE_MUTATORS | WIRE_MUTATORS,
)
