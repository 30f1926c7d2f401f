"""Headers: an earned trunk, which randomness comes from, and signed foliage, which content hangs on.

The trunk holds what work alone decides, so a winner cannot change it for free. The foliage is signed by the miner whose
segment the ticket belongs to and names the trunk by its hash; the header's hash is the foliage's hash, which leaves the
signature out because one message has many valid signatures.
"""

from dataclasses import dataclass
from functools import lru_cache

from chain.codec import U16, U64, U256, HashField, PublicKeyField, SignatureField, encode
from chain.hashing import tagged_hash
from chain.primitives import Hash
from chain.ticket import Ticket

HEADER_VERSION = 1
HEADER_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True)
class Trunk:
    """What was earned: the ticket, the beacon it moves to, and the chain's expected MACs up to this block."""

    ticket: Ticket
    beacon: HashField
    total_work: U256


@dataclass(frozen=True, slots=True)
class Foliage:
    """What the winner signs: place in the chain, time, and the roots of state, transactions and history."""

    version: U16
    height: U64
    parent_hash: HashField
    timestamp_ms: U64
    target: U256
    miner: PublicKeyField
    state_root: HashField
    transactions_root: HashField
    trunk_hash: HashField
    history_root: HashField


@dataclass(frozen=True, slots=True)
class Header:
    """A trunk with its signed foliage."""

    trunk: Trunk
    foliage: Foliage
    signature: SignatureField

    @property
    def height(self) -> int:
        """Blocks since genesis."""
        return self.foliage.height


def compute_header_hash(header: Header) -> Hash:
    """Return the hash that names the block; the signature is not in it."""
    return tagged_hash("header", _encode_foliage(header.foliage))


def compute_trunk_hash(trunk: Trunk) -> Hash:
    """Return the hash by which the foliage names its trunk."""
    return tagged_hash("trunk", encode(trunk))


def compute_signing_hash(chain_id: Hash, foliage: Foliage) -> Hash:
    """Return the 32 bytes that the miner signs."""
    return tagged_hash("header.sign", chain_id, _encode_foliage(foliage))


@lru_cache(maxsize=4)
def _encode_foliage(foliage: Foliage) -> bytes:
    # A header's name and what its miner signs hash the same bytes, one soon after the other.
    return encode(foliage)


def compute_beacon(parent_beacon: Hash, ticket_digest: Hash) -> Hash:
    """Return the beacon after a block: the only randomness that challenges and anchors may use."""
    return tagged_hash("beacon", parent_beacon, ticket_digest)
