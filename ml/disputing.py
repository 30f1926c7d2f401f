"""Disputing a segment: where it departs from an execution of one's own, and what its prover shows step by step.

The roots of a trace say which op's outputs differ first; its inputs agree. Of one output the digests of all strips are
shown, then one strip, then the place that differs with all that the op's local check reads. Whoever trained the segment
gets all of it by running one step again. It knows no deposit and no deadline.
"""

from dataclasses import dataclass
from typing import Annotated, cast

import numpy as np

from chain.codec import Bytes, HashField, Many, decode, encode
from chain.errors import DecodeError, InvalidProof
from chain.merkle import blake3_node, compute_root
from ml.openings import Place
from ml.program import Op, OpKind, Program, TensorId
from ml.segment import StepTensors
from ml.tensor_tree import (
    DIGEST_BYTES,
    PATH_LENGTH_MAX,
    PIECE_BYTES,
    STRIP_ROWS,
    IntArray,
    bind_root,
    build_tree,
    get_array,
    open_strip,
    verify_strip,
)
from ml.trace import Trace, get_output_root, get_tensor_shape

STRIP_ANSWER_BYTES_MAX = STRIP_ROWS * PIECE_BYTES + PATH_LENGTH_MAX * (DIGEST_BYTES + 2) + 16


@dataclass(frozen=True, slots=True)
class StripAnswer:
    """The rows of one strip, row-major, and its path to the root of the tensor."""

    rows: Annotated[bytes, Bytes(1, STRIP_ROWS * PIECE_BYTES)]
    path: Annotated[tuple[HashField, ...], Many(PATH_LENGTH_MAX)]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first op whose outputs differ between two traces, and the output to ask about, counted among the op's."""

    step: int
    op: int
    output: int


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a tensor."""

    row: int
    column: int


def find_difference(program: Program, own_roots: bytes, claimed_roots: bytes) -> Difference | None:
    """Return the first op that two traces of the same checkpoint differ in, or None when they agree.

    Of several outputs that differ the last is asked about: with the exponents of a quantised tensor settled, its
    mantissas are decided element by element. Both traces have the size that the program says.
    """
    assert len(own_roots) == len(claimed_roots)
    for step in range(program.steps):
        for op in program.get_step_ops(step):
            differing = [
                number
                for number, output in enumerate(op.outputs)
                if get_output_root(program, own_roots, step, output)
                != get_output_root(program, claimed_roots, step, output)
            ]
            if differing:
                return Difference(step, op.index, differing[-1])
    return None


def open_digests(tensor: IntArray) -> bytes:
    """Return the digests of a tensor's strips, one after another."""
    return b"".join(build_tree(tensor).strip_digests)


def verify_digests(trace: Trace, step: int, tensor: TensorId, data: bytes) -> None:
    """Check that `data` are the digests of all strips of an output of a step; raises InvalidProof."""
    shape = get_tensor_shape(trace.program.tensors[tensor])
    if len(data) != shape.strips * DIGEST_BYTES:
        raise InvalidProof("digests-size", f"found {len(data)} bytes, expected {shape.strips * DIGEST_BYTES}")
    found = bind_root(shape, compute_root(split_digests(data), blake3_node))
    if found != trace.get_root(step, tensor):
        raise InvalidProof("digests-root", f"found root {found.hex()}, expected {trace.get_root(step, tensor).hex()}")


def split_digests(data: bytes) -> tuple[bytes, ...]:
    """Return the digests that stand one after another in `data`."""
    return tuple(data[start : start + DIGEST_BYTES] for start in range(0, len(data), DIGEST_BYTES))


def open_whole_strip(tensor: IntArray, strip: int) -> bytes:
    """Return the answer that shows strip number `strip` of a tensor."""
    tree = build_tree(tensor)
    return encode(StripAnswer(*open_strip(tree, *divmod(strip, tree.shape.windows))))


def verify_whole_strip(trace: Trace, step: int, tensor: TensorId, strip: int, data: bytes) -> IntArray:
    """Return the elements (rows, columns of the window) that an answer shows; raises InvalidProof."""
    try:
        answer = decode(StripAnswer, data, STRIP_ANSWER_BYTES_MAX)
    except DecodeError as error:
        raise InvalidProof("strip-encoding", str(error)) from None
    shape = get_tensor_shape(trace.program.tensors[tensor])
    place = divmod(strip, shape.windows)
    rows = verify_strip(trace.get_root(step, tensor), shape, place, answer.rows, answer.path)
    return cast(IntArray, get_array(rows.tobytes(), shape.dtype).reshape(len(rows), -1))


def find_strip(own: IntArray, digests: bytes) -> int:
    """Return the number of the first strip whose digest differs from that of one's own tensor."""
    pairs = zip(build_tree(own).strip_digests, split_digests(digests), strict=True)
    return next(number for number, (mine, other) in enumerate(pairs) if mine != other)


def find_element(own: IntArray, strip: int, shown: IntArray) -> Element:
    """Return the first element of a strip in which what is shown differs from one's own tensor."""
    columns = PIECE_BYTES // own.dtype.itemsize
    block, window = divmod(strip, -(-own.shape[1] // columns))
    first = Element(block * STRIP_ROWS, window * columns)
    part = own[first.row : first.row + STRIP_ROWS, first.column : first.column + columns]
    row, column = np.argwhere(part != shown)[0]
    return Element(first.row + int(row), first.column + int(column))


def choose_place(program: Program, difference: Difference, element: Element, tensors: StepTensors) -> Place:
    """Return the place at which an op cannot be opened when one of its outputs is wrong at `element`.

    `tensors` are those of one's own execution of the step. An exponent covers a row: it is shown to be wrong where the
    row's tallest element is drawn.
    """
    op = program.get_op(difference.op)
    first, output = (program.tensors[op.outputs[number]] for number in (0, difference.output))
    column = element.column
    if (first.rows, first.columns) != (output.rows, output.columns):
        column = _find_tallest_column(program, op, element.row, tensors)
    return Place(difference.step, op.index, element.row, column, 0)


def _find_tallest_column(program: Program, op: Op, row: int, tensors: StepTensors) -> int:
    """Return the column of the first output in which the tallest element that a row was quantised from lies."""
    if op.kind is not OpKind.QUANTISE_TRANSPOSED:
        return 0
    source, columns = program.tensors[op.inputs[0]], program.tensors[op.outputs[0]].columns
    group, column = divmod(row, source.columns)
    part = tensors[source.id][group * columns : (group + 1) * columns, column].astype(np.int64)
    return int(np.abs(part).argmax())
