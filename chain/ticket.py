"""The record of a winning ticket, where its digest was found, and the strips that open it.

How a ticket is mined, checked or paid is consensus' and the ledger's business; here are only its fields and sizes.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U16, U32, U64, Bytes, HashField, Many
from chain.primitives import Hash

TILE = 32
"""Rows and columns of a tile; also the rows of a strip."""

TICKET_OPENING_BYTES_MAX = 192 * 1024
"""Strips of a whole window of both operands with their paths take 132 KiB."""

PIECE_BYTES = 1024
"""Bytes of one row that share a leaf: one BLAKE3 chunk."""

WINDOW = 2048
"""Columns of K after which accumulators restart; a ticket covers at most one window."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Where a winning digest was found: which segment, which matmul of which step, which tile.

    `lap` counts how often the operands were noised afresh under one parent; each lap costs the whole noised matmul.
    """

    task: HashField
    round: U32
    anchor_height: U64
    index: U16
    step: U32
    op: U16
    lap: U32
    tile_row: U32
    tile_column: U32
    window: U16
    root_a: HashField
    root_b: HashField
    digest: HashField


@dataclass(frozen=True, slots=True)
class StripOpening:
    """32 rows of one column window (row-major int8) and the path from their strip to the tensor's root."""

    rows: Annotated[bytes, Bytes(TILE, TILE * PIECE_BYTES)]
    path: Annotated[tuple[HashField, ...], Many(40)]


@dataclass(frozen=True, slots=True)
class TicketOpening:
    """The strips of A and of B transposed that one ticket's window reads."""

    strips_a: Annotated[tuple[StripOpening, ...], Many(WINDOW // PIECE_BYTES)]
    strips_b: Annotated[tuple[StripOpening, ...], Many(WINDOW // PIECE_BYTES)]


EMPTY_TICKET = Ticket(
    task=Hash(bytes(32)),
    round=0,
    anchor_height=0,
    index=0,
    step=0,
    op=0,
    lap=0,
    tile_row=0,
    tile_column=0,
    window=0,
    root_a=Hash(bytes(32)),
    root_b=Hash(bytes(32)),
    digest=Hash(bytes(32)),
)
"""What stands in the genesis header, which nobody mined."""
