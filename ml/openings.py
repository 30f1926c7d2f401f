"""Openings: which places of a committed segment are drawn, and how the elements that decide one are shown.

A local check reads rows through a `Reader`. The prover's reader takes them from tensors and writes down each piece
once; the verifier's takes the same pieces in the same order and holds each against the trace. So what is opened is
decided by the check alone. It knows no op. Source: `ml.checks` for what is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Protocol, cast

import numpy as np

from chain.codec import U32, Many, decode, encode
from chain.errors import DecodeError, InvalidProof
from chain.primitives import Hash
from ml.arithmetic import I64
from ml.prf import derive_key, draw_below
from ml.program import Program, TensorId
from ml.tensor_tree import IntArray, PieceOpening, TensorTree, build_tree, get_array, open_piece, verify_piece
from ml.trace import get_tensor_shape

OPENING_BYTES_MAX = 64 * 1024
PIECES_MAX = 64


@dataclass(frozen=True, slots=True)
class Opening:
    """The pieces that one check reads, in the order it reads them, and the rows that the prover points at."""

    pieces: Annotated[tuple[PieceOpening, ...], Many(PIECES_MAX)]
    witnesses: Annotated[tuple[U32, ...], Many(4)]


@dataclass(frozen=True, slots=True)
class Place:
    """One drawn place: an element of the first output of one op, and for a matmul a position along its depth."""

    step: int
    op: int
    row: int
    column: int
    depth: int


def draw_places(program: Program, challenge: Hash, count: int) -> tuple[Place, ...]:
    """Return the `count` places that `challenge` draws: by turns weighted by MACs and uniform over op records."""
    return tuple(draw_place(program, derive_key("place", challenge, i.to_bytes(4, "little")), i) for i in range(count))


def draw_place(program: Program, key: int, index: int) -> Place:
    """Return the place that `key` draws: weighted by MACs where `index` is even, else uniform over op records."""
    if index % 2 == 0 and program.matmuls:
        step, op = _draw_by_macs(program, key)
    else:
        count = len(program.ops)
        record = draw_below(key, 0, program.steps * count + len(program.delta_ops))
        step = min(record // count, program.steps - 1)
        op = record - step * count
    output, matmul = program.tensors[program.get_op(op).outputs[0]], program.get_matmul(op)
    depth = draw_below(key, 3, matmul.K) if matmul is not None else 0
    return Place(step, op, draw_below(key, 1, output.rows), draw_below(key, 2, output.columns), depth)


def _draw_by_macs(program: Program, key: int) -> tuple[int, int]:
    step, rest = divmod(draw_below(key, 0, program.segment_macs), program.step_macs)
    for matmul in program.matmuls:
        if rest < matmul.macs:
            return step, matmul.op
        rest -= matmul.macs
    raise AssertionError("the matmuls' MACs add up to the step's")


class Roots(Protocol):
    """The roots that an opening is held against: those of a segment's trace, or of one pass."""

    @property
    def program(self) -> Program:
        """The program whose tensors have these roots."""

    def get_root(self, step: int, tensor: TensorId) -> Hash:
        """Return the root of `tensor` as step `step` reads or writes it."""


class Reader(Protocol):
    """Gives a check the elements it asks for."""

    def read(self, tensor: TensorId, row: int, start: int, stop: int) -> IntArray:
        """Return the columns [start, stop) of a row: (stop - start,) of the tensor's dtype."""

    def find_tallest(self, tensor: TensorId, column: int, rows: tuple[int, int]) -> int:
        """Return a row in [rows[0], rows[1]) that is said to hold the largest magnitude of a column there."""


@dataclass(frozen=True, slots=True)
class TensorReader:
    """Reads the tensors of one step, and writes down the opening of all that was read."""

    program: Program
    tensors: Mapping[TensorId, IntArray]
    trees: dict[TensorId, TensorTree]
    """Kept by the caller for all openings of one step; filled as trees are needed."""
    pieces: list[PieceOpening] = field(default_factory=list)
    opened: set[tuple[TensorId, int, int]] = field(default_factory=set)
    """Tensor, row and window of every piece that was written down."""
    witnesses: list[int] = field(default_factory=list)

    def read(self, tensor: TensorId, row: int, start: int, stop: int) -> IntArray:
        """Return the columns [start, stop) of a row and note the pieces that hold them."""
        if tensor not in self.trees:
            self.trees[tensor] = build_tree(self.tensors[tensor])
        tree = self.trees[tensor]
        for window in range(start // tree.shape.window_columns, (stop - 1) // tree.shape.window_columns + 1):
            if (tensor, row, window) not in self.opened:
                self.opened.add((tensor, row, window))
                self.pieces.append(open_piece(tree, row, window))
        part: IntArray = self.tensors[tensor][row, start:stop]
        return part

    def find_tallest(self, tensor: TensorId, column: int, rows: tuple[int, int]) -> int:
        """Return and note the first of these rows with the largest magnitude of a column."""
        values: I64 = self.tensors[tensor][rows[0] : rows[1], column].astype(np.int64)
        self.witnesses.append(rows[0] + int(np.abs(values).argmax()))
        return self.witnesses[-1]

    def encode(self) -> bytes:
        """Return the canonical bytes of the opening of all that was read."""
        return encode(Opening(tuple(self.pieces), tuple(self.witnesses)))


@dataclass(frozen=True, slots=True)
class OpeningReader:
    """Reads a prover's opening, and holds every piece against the root of its tensor."""

    trace: Roots
    step: int
    opening: Opening
    verified: dict[tuple[TensorId, int, int], IntArray] = field(default_factory=dict)
    answered: list[int] = field(default_factory=list)

    def read(self, tensor: TensorId, row: int, start: int, stop: int) -> IntArray:
        """Return the columns [start, stop) of a row; raises InvalidProof."""
        columns = get_tensor_shape(self.trace.program.tensors[tensor]).window_columns
        first = start // columns
        windows = [self._read_piece(tensor, row, w) for w in range(first, (stop - 1) // columns + 1)]
        return cast(IntArray, np.concatenate(windows)[start - first * columns : stop - first * columns])

    def find_tallest(self, tensor: TensorId, column: int, rows: tuple[int, int]) -> int:
        """Return the row that the prover points at; raises InvalidProof when it is none. The check reads it."""
        assert 0 <= column < self.trace.program.tensors[tensor].columns
        if len(self.answered) == len(self.opening.witnesses):
            raise InvalidProof("opening-length", f"found {len(self.answered)} witness rows, expected more")
        row = self.opening.witnesses[len(self.answered)]
        if not rows[0] <= row < rows[1]:
            raise InvalidProof("witness-row", f"found row {row}, expected one in [{rows[0]}, {rows[1]})")
        self.answered.append(row)
        return row

    def validate_end(self) -> None:
        """Check that the opening holds nothing that was not read; raises InvalidProof."""
        found = len(self.opening.pieces), len(self.opening.witnesses)
        expected = len(self.verified), len(self.answered)
        if found != expected:
            raise InvalidProof("opening-length", f"found {found} pieces and witness rows, expected {expected}")

    def _read_piece(self, tensor: TensorId, row: int, window: int) -> IntArray:
        known = self.verified.get((tensor, row, window))
        if known is not None:
            return known
        if len(self.verified) == len(self.opening.pieces):
            raise InvalidProof("opening-length", f"found {len(self.verified)} pieces, expected more")
        piece = self.opening.pieces[len(self.verified)]
        shape = get_tensor_shape(self.trace.program.tensors[tensor])
        data = verify_piece(self.trace.get_root(self.step, tensor), shape, row, window, piece)
        self.verified[tensor, row, window] = get_array(data, shape.dtype)
        return self.verified[tensor, row, window]


def decode_opening(data: bytes) -> Opening:
    """Return the opening whose canonical bytes are `data`, at most 64 KiB; raises InvalidProof."""
    try:
        return decode(Opening, data, OPENING_BYTES_MAX)
    except DecodeError as error:
        raise InvalidProof("opening-encoding", str(error)) from None
