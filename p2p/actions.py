"""What the relay wants done, as plain values.

Whoever owns the sockets and the chain carries them out, in order; here nothing is sent and nothing is decided.
"""

from dataclasses import dataclass

from chain.packed import PackedBlock, PackedTransaction
from chain.primitives import Hash, PublicKey
from p2p.messages import GetBlobPart, GetHeaders, GetStateChunk, GetTransactions, Item, Message
from p2p.score import Fault

Peer = PublicKey
"""A peer is named by the key that its handshake proved."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to `peer`."""

    peer: Peer
    message: Message


@dataclass(frozen=True, slots=True)
class Push:
    """A new head for a peer that asked to be sent them; it may be one no longer when the peer has room."""

    block: Hash


Question = GetHeaders | GetTransactions | GetStateChunk | GetBlobPart | Item | Push
"""What is answered from the chain, or pushed from it, when the peer has room."""


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer `question` when the peer has room for it."""

    peer: Peer
    question: Question


@dataclass(frozen=True, slots=True)
class Charge:
    """Charge `peer` with `fault`; `reason` is for the log."""

    peer: Peer
    fault: Fault
    reason: str


@dataclass(frozen=True, slots=True)
class DeliverHeaders:
    """Hand headers to the chain, with openings of some of their tickets by position; report to `on_headers_outcome`."""

    peer: Peer
    headers: tuple[bytes, ...]
    openings: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class DeliverBlock:
    """Hand a block to the chain and report to `on_block_outcome`."""

    peer: Peer
    hash: Hash
    block: PackedBlock
    sidecars: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class DeliverTransaction:
    """Hand a transaction to the chain and report to `on_transaction_outcome`."""

    peer: Peer
    hash: Hash
    transaction: PackedTransaction
    sidecar: bytes | None


Delivery = DeliverHeaders | DeliverBlock | DeliverTransaction
Action = Send | Serve | Charge | Delivery
