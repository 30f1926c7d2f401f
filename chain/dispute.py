"""Disputes over a contribution: what a challenger may demand of a segment's miner, and what the miner answers.

Records alone. What is demanded gets smaller from one demand to the next: the digests of an output's strips, one strip,
one place of the op with all that its local check reads. Whether an answer holds is decided behind the learning engine.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U8, U16, U32, U64, Bytes, HashField, PublicKeyField, Tagged

ANSWER_BYTES_MAX = 512 * 1024
"""Bytes of one answer; the digests of 16,384 strips, of which each covers up to 32 KiB of a tensor."""


@dataclass(frozen=True, slots=True)
class DemandDigests:
    """Reveal the digests of all strips of one output of the op, counted among its outputs."""

    output: U8


@dataclass(frozen=True, slots=True)
class DemandStrip:
    """Reveal the rows of one strip of an output of the op; strips count by block of rows, then by column window."""

    output: U8
    strip: U32


@dataclass(frozen=True, slots=True)
class DemandOpening:
    """Open one place of the op, an element of its first output and a position along a product's depth, and hold."""

    row: U32
    column: U32
    depth: U32


Demand = DemandDigests | DemandStrip | DemandOpening


@dataclass(frozen=True, slots=True)
class DisputeContribution:
    """Demand something of one op of a committed segment; the first demand locks `deposit` atoms, later ones none.

    The segment is named by its block data too: another branch may have another one in its place.
    """

    task: HashField
    round: U32
    miner: PublicKeyField
    index: U16
    sidecar_hash: HashField
    step: U32
    op: U16
    demand: Annotated[Demand, Tagged()]
    deposit: U64


@dataclass(frozen=True, slots=True)
class AnswerDispute:
    """Give a challenger what it demanded last of a segment of `miner`'s; anybody who has executed it can."""

    task: HashField
    round: U32
    miner: PublicKeyField
    index: U16
    challenger: PublicKeyField
    answer: Annotated[bytes, Bytes(1, ANSWER_BYTES_MAX)]
