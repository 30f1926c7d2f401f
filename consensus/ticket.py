"""Tickets: seed, threshold, work, opening and verification of a digest won by a training matmul.

A ticket proves that one tile of one matmul of a segment was computed under noise that nobody could know before the
parent block and the committed operands. It knows no ledger: whether the segment is live, bonded and settled is
decided elsewhere. Checks run cheapest first. Source: docs/protocol.md, the lottery.
"""

from dataclasses import dataclass

import numpy as np

from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from chain.primitives import Hash
from chain.ticket import PIECE_BYTES, StripOpening, Ticket, TicketOpening
from consensus.asert import compute_threshold
from ml.backends import reference_ticket
from ml.lottery import Lottery
from ml.noise import I8, OPERAND_MAX, TILE, WINDOW, MatmulShape, Place
from ml.program import Dtype, Program
from ml.tensor_tree import HashStripRows, TensorShape, TensorTree, build_tree, open_strip, verify_strip


@dataclass(frozen=True, slots=True)
class Draw:
    """What a digest is drawn under: the chain, the parent's full hash, the segment's seed and the parent's target."""

    chain_id: Hash
    parent_hash: Hash
    segment_seed: Hash
    target: int


@dataclass(frozen=True, slots=True)
class Operands:
    """One matmul of a segment, by step and op, with the roots of both operands and how often they were noised anew."""

    step: int
    op: int
    lap: int
    shape: MatmulShape
    root_a: Hash
    root_b: Hash


def compute_ticket_seed(draw: Draw, operands: Operands) -> Hash:
    """Return the seed of the noise: it binds parent and operands, and no transaction, time or signature."""
    shape = operands.shape
    return tagged_hash(
        "ticket.2",
        draw.chain_id,
        draw.parent_hash,
        draw.segment_seed,
        operands.step.to_bytes(4, "little"),
        operands.op.to_bytes(2, "little"),
        *(value.to_bytes(4, "little") for value in (operands.lap, shape.M, shape.N, shape.K)),
        operands.root_a,
        operands.root_b,
    )


def compute_thresholds(target: int, shape: MatmulShape) -> tuple[int, ...]:
    """Return the threshold of every window of a matmul."""
    return tuple(compute_threshold(target, shape.get_ticket_macs(window)) for window in range(shape.windows))


def compute_ticket_shape(program: Program, step: int, op: int) -> MatmulShape:
    """Return the dimensions of a matmul of `program`; raises InvalidProof when there is none at (step, op)."""
    if not 0 <= step < program.steps:
        raise InvalidProof("ticket-step", f"found step {step}, expected one below {program.steps}")
    matmul = program.get_lottery_matmul(op)
    if matmul is None:
        raise InvalidProof("ticket-op", f"found op {op}, expected a matmul")
    return MatmulShape(matmul.M, matmul.N, matmul.K)


def get_place(ticket: Ticket) -> Place:
    """Return the tile and window that `ticket` names."""
    return Place(ticket.tile_row, ticket.tile_column, ticket.window)


def validate_place(shape: MatmulShape, place: Place) -> None:
    """Check that a whole tile and a window with a fold lie at `place`; raises InvalidProof."""
    for rule, found, count in (
        ("ticket-tile-row", place.tile_row, shape.tile_rows),
        ("ticket-tile-column", place.tile_column, shape.tile_columns),
        ("ticket-window", place.window, shape.windows),
    ):
        if not 0 <= found < count:
            raise InvalidProof(rule, f"found {found}, expected one below {count}")


def compute_ticket_macs(program: Program, ticket: Ticket) -> int:
    """Return the multiply-accumulates at a ticket's place; raises InvalidProof when `program` has no such place."""
    shape, place = compute_ticket_shape(program, ticket.step, ticket.op), get_place(ticket)
    validate_place(shape, place)
    return shape.get_ticket_macs(place.window)


def open_ticket(ticket: Ticket, a: I8, bt: I8) -> TicketOpening:
    """Return the strips of a (M, K) int8 and bt (N, K) int8 that the ticket's window reads."""
    shape, place = MatmulShape(a.shape[0], bt.shape[0], a.shape[1]), get_place(ticket)
    tree_a, tree_b = build_tree(a), build_tree(bt)
    assert (tree_a.root, tree_b.root) == (ticket.root_a, ticket.root_b), "the operands are not the ticket's"
    pieces = _get_pieces(shape, place.window)
    return TicketOpening(
        tuple(_open_piece(tree_a, place.tile_row, piece) for piece in pieces),
        tuple(_open_piece(tree_b, place.tile_column, piece) for piece in pieces),
    )


def verify_ticket(
    ticket: Ticket, opening: TicketOpening, shape: MatmulShape, draw: Draw, lottery: Lottery = reference_ticket
) -> None:
    """Check that `ticket` won under `draw` on operands of `shape`; raises InvalidProof."""
    place = get_place(ticket)
    validate_place(shape, place)
    threshold = compute_threshold(draw.target, shape.get_ticket_macs(place.window))
    if int.from_bytes(ticket.digest, "big") >= threshold:
        raise InvalidProof("ticket-threshold", f"found digest {ticket.digest.hex()}, expected below {threshold:064x}")
    pieces = len(_get_pieces(shape, place.window))
    if not len(opening.strips_a) == len(opening.strips_b) == pieces:
        found = f"{len(opening.strips_a)} and {len(opening.strips_b)}"
        raise InvalidProof("ticket-strips", f"found {found} strips, expected {pieces} of each operand")
    hash_rows, strip_a = lottery.hash_strip_rows, (place.tile_row, place.window)
    rows_a = _verify_rows(ticket.root_a, (shape.M, shape), strip_a, opening.strips_a, hash_rows)
    strip_b = (place.tile_column, place.window)
    rows_b = _verify_rows(ticket.root_b, (shape.N, shape), strip_b, opening.strips_b, hash_rows)
    operands = Operands(ticket.step, ticket.op, ticket.lap, shape, ticket.root_a, ticket.root_b)
    digest = lottery.compute_ticket_digest(compute_ticket_seed(draw, operands), shape, place, rows_a, rows_b)
    if digest != ticket.digest:
        raise InvalidProof("ticket-digest", f"found {ticket.digest.hex()}, expected {digest.hex()}")


def _get_pieces(shape: MatmulShape, window: int) -> range:
    """Return the column windows of 1 KiB, in the tensors' trees, that a lottery window reads."""
    first = window * WINDOW // PIECE_BYTES
    return range(first, first + -(-shape.get_window_columns(window) // PIECE_BYTES))


def _open_piece(tree: TensorTree, tile: int, piece: int) -> StripOpening:
    rows, path = open_strip(tree, tile, piece)
    return StripOpening(rows, path)


def _verify_rows(
    root: Hash,
    operand: tuple[int, MatmulShape],
    strip: tuple[int, int],
    openings: tuple[StripOpening, ...],
    hash_rows: HashStripRows,
) -> I8:
    """Return the (32, columns of the window) int8 rows that `openings` show under `root`; raises InvalidProof."""
    (rows, shape), (tile, window) = operand, strip
    tensor = TensorShape(rows, shape.K, Dtype.INT8)
    parts = [
        verify_strip(root, tensor, (tile, piece), opening.rows, opening.path, hash_rows)
        for piece, opening in zip(_get_pieces(shape, window), openings, strict=True)
    ]
    values = np.concatenate(parts, axis=1).view(np.int8)[:, : shape.get_window_columns(window)]
    assert values.shape[0] == TILE
    if values.min() < -OPERAND_MAX or values.max() > OPERAND_MAX:
        raise InvalidProof("ticket-range", f"found {values.min()} to {values.max()}, expected [-63, 63]")
    return values
