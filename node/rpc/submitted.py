"""What a node's miner hands over through the RPC, and what becomes of a ticket.

Plain records of `node.rpc.api.NodeApi`; bytes in them are canonical encodings. It knows no method.
"""

from dataclasses import dataclass
from enum import Enum

from chain.primitives import Hash, PublicKey


@dataclass(frozen=True, slots=True)
class SegmentSubmission:
    """A finished segment; the node signs and sends its commit and keeps the sidecar (canonical bytes)."""

    task: Hash
    round: int
    index: int
    anchor_height: int
    seed: Hash
    trace_root: Hash
    delta_root: Hash
    sidecar: bytes


@dataclass(frozen=True, slots=True)
class OpeningsSubmission:
    """The drawn places of a committed segment, opened, in the order drawn."""

    task: Hash
    round: int
    index: int
    openings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AnswerSubmission:
    """What a challenger demanded of a segment."""

    task: Hash
    round: int
    index: int
    challenger: PublicKey
    answer: bytes


class TicketOutcome(Enum):
    """What became of a submitted ticket."""

    EXTENDED = "extended"
    STALE = "stale"
