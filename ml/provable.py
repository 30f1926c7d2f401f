"""Whether a program's honest segments can be proven at all: the size of its openings, from shapes alone.

Each kind of op is checked once on a reader that gives zeros and counts pieces, so that what is counted is what the
checks read. Nothing is trained. It knows no chain; `node.learning` holds tasks against it.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from chain.errors import DecodeError, InvalidProof
from ml.checks import CheckContext, check_place
from ml.openings import OPENING_BYTES_MAX, PIECES_MAX, Place
from ml.program import Dtype, Op, Program, TensorId
from ml.tensor_tree import DIGEST_BYTES, IntArray
from ml.trace import get_tensor_shape

SEGMENT_MACS_MAX = 1 << 56
"""A draw is a word of 64 bits: below this no multiply-accumulate is drawn 1 % more often than another."""
DIGESTS_BYTES_MAX = 512 * 1024
"""What a dispute's answer may show of the digests of one tensor's strips: those of 512 MiB."""
_DTYPES = {Dtype.INT8: np.int8, Dtype.INT32: np.int32, Dtype.INT64: np.int64}
_FRAME_BYTES = 16
"""Headers of a piece's record: array, data, siblings and path."""
_DIGEST_FRAME_BYTES = DIGEST_BYTES + 2


@dataclass(slots=True)
class _CountingReader:
    """Gives zeros, and counts the bytes that an opening of what was read would take."""

    program: Program
    size_bytes: int = 64
    seen: set[tuple[TensorId, int, int]] = field(default_factory=set)

    def read(self, tensor: TensorId, row: int, start: int, stop: int) -> IntArray:
        shape = get_tensor_shape(self.program.tensors[tensor])
        for window in range(start // shape.window_columns, (stop - 1) // shape.window_columns + 1):
            if (tensor, row, window) not in self.seen:
                self.seen.add((tensor, row, window))
                siblings = (shape.strip_rows(0) - 1) * DIGEST_BYTES
                path = (shape.strips - 1).bit_length() * _DIGEST_FRAME_BYTES
                self.size_bytes += shape.piece_bytes(window) + siblings + path + _FRAME_BYTES
        zeros: IntArray = np.zeros(stop - start, _DTYPES[shape.dtype])
        return zeros

    def find_tallest(self, tensor: TensorId, column: int, rows: tuple[int, int]) -> int:
        assert 0 <= column < self.program.tensors[tensor].columns
        return rows[1] - 1


def compute_opening_max(context: CheckContext) -> tuple[int, int]:
    """Return the bytes and the pieces of the largest openings that any place of the program may need."""
    program = context.program
    kinds = {_describe(program, op): op for op in (*program.ops, *program.delta_ops)}
    readers = []
    for _, op in sorted(kinds.items()):
        readers.append(_CountingReader(program))
        step = program.steps - 1
        # Zeros are no honest tensors; a check that compares has read all it reads.
        with suppress(InvalidProof):
            check_place(context, Place(step, op.index, 0, 0, 0), readers[-1])
    return max(reader.size_bytes for reader in readers), max(len(reader.seen) for reader in readers)


def validate_provable(context: CheckContext) -> None:
    """Check that every honest opening of the program is within the limits of openings; raises DecodeError."""
    macs = context.program.segment_macs
    if macs >= SEGMENT_MACS_MAX:
        raise DecodeError(f"task: found {macs} MACs a segment, expected less than 2^56; take fewer steps")
    size_bytes, pieces = compute_opening_max(context)
    if size_bytes > OPENING_BYTES_MAX or pieces > PIECES_MAX:
        raise DecodeError(
            f"task: found openings of {size_bytes} bytes in {pieces} pieces, expected at most {OPENING_BYTES_MAX} in"
            f" {PIECES_MAX}; take narrower layers or a smaller batch"
        )
    digests_bytes = max(get_tensor_shape(tensor).strips for tensor in context.program.tensors) * DIGEST_BYTES
    if digests_bytes > DIGESTS_BYTES_MAX:
        raise DecodeError(
            f"task: found a tensor with {digests_bytes} bytes of digests, expected at most {DIGESTS_BYTES_MAX};"
            " take narrower layers or a smaller batch"
        )


def _describe(program: Program, op: Op) -> tuple[int, ...]:
    """Return what the size of an op's opening follows from."""
    tensors = [program.tensors[tensor] for tensor in (*op.inputs, *op.outputs)]
    producers = [program.get_producer(tensor) for tensor in op.inputs]
    shapes = [number for tensor in tensors for number in (tensor.rows, tensor.columns, int(tensor.dtype))]
    return (int(op.kind), op.groups, *shapes, *(-1 if each is None else int(each.kind) for each in producers))
