"""A step's transcript: what a prover serves so that a step can be verified without its matmuls.

It holds the tensors that the step starts from and the exact int32 product of every matmul, before it is rescaled. All
else is computed again from these: a rescaled product has lost the bits that its rounding dropped, so a product cannot
be had from its trace, while every other op costs little. No length is told: every size follows from the program.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chain.errors import InvalidProof
from ml.arithmetic import I8, I32, INT32_MAX, IntArray
from ml.backends import Backend
from ml.backends.batched_checks import VARIANCE_MAX
from ml.program import Dtype, Matmul, Program, Tensor, TensorId

ACCUMULATOR_BYTES = 4
_CODES = {Dtype.INT8: "<i1", Dtype.INT32: "<i4", Dtype.INT64: "<i8"}


@dataclass(frozen=True, slots=True)
class Transcript:
    """The parts of a transcript; arrays are views of its bytes and cannot be written."""

    inputs: dict[TensorId, IntArray]
    """The state before the step, and at the last step the checkpoint's weights: not yet held against any root."""
    products: dict[int, I32]
    """By op: (groups * M, N). Elements above the diagonal of a causal product too. Not yet checked."""


def list_inputs(program: Program, step: int) -> tuple[Tensor, ...]:
    """Return the tensors that `step` starts from, in the order in which they are served."""
    is_last = step == program.steps - 1
    ids = program.state_inputs + (program.checkpoint_weights if is_last else ())
    return tuple(program.tensors[tensor] for tensor in ids)


def get_product_shape(matmul: Matmul) -> tuple[int, int]:
    """Return rows and columns of a matmul's whole product."""
    return matmul.groups * matmul.M, matmul.N


def compute_transcript_size(program: Program, step: int) -> int:
    """Return the bytes of the transcript of `step`."""
    products = sum(rows * columns for rows, columns in map(get_product_shape, program.matmuls))
    return sum(tensor.size_bytes for tensor in list_inputs(program, step)) + ACCUMULATOR_BYTES * products


def make_transcript(program: Program, backend: Backend, step: int, tensors: Mapping[TensorId, IntArray]) -> bytes:
    """Return the transcript of `step` from all of its tensors; every product is computed once more."""
    parts = [np.ascontiguousarray(tensors[t.id], _CODES[t.dtype]).tobytes() for t in list_inputs(program, step)]
    for matmul in program.matmuls:
        a, b = (np.asarray(tensors[operand], np.int8) for operand in (matmul.a, matmul.b))
        parts.append(_multiply(backend, matmul, a, b).astype("<i4").tobytes())
    return b"".join(parts)


def _multiply(backend: Backend, matmul: Matmul, a: I8, b: I8) -> I32:
    pairs: Sequence[tuple[I8, I8]] = list(zip(np.split(a, matmul.groups), np.split(b, matmul.groups), strict=True))
    return np.concatenate([backend.multiply(left, right) for left, right in pairs])


def decode_transcript(program: Program, step: int, data: bytes) -> Transcript:
    """Return the parts of the transcript of `step`; raises InvalidProof.

    Its size is compared before anything is read; the state must have values that the optimizer can have left.
    """
    if not 0 <= step < program.steps:
        raise InvalidProof("transcript-step", f"found step {step}, expected one below {program.steps}")
    expected = compute_transcript_size(program, step)
    if len(data) != expected:
        raise InvalidProof("transcript-size", f"found {len(data)} bytes, expected {expected}")
    start = 0
    inputs: dict[TensorId, IntArray] = {}
    for tensor in list_inputs(program, step):
        part = np.frombuffer(data, _CODES[tensor.dtype], tensor.rows * tensor.columns, start)
        inputs[tensor.id] = _validate_state(tensor, part.reshape(tensor.rows, tensor.columns))
        start += tensor.size_bytes
    products: dict[int, I32] = {}
    for matmul in program.matmuls:
        shape = get_product_shape(matmul)
        count = shape[0] * shape[1]
        products[matmul.op] = np.frombuffer(data, "<i4", count, start).reshape(shape)
        start += ACCUMULATOR_BYTES * count
    return Transcript(inputs, products)


def _validate_state(tensor: Tensor, values: IntArray) -> IntArray:
    bounds = (0, VARIANCE_MAX - 1) if tensor.dtype is Dtype.INT64 else (-INT32_MAX, INT32_MAX)
    lowest, highest = int(values.min()), int(values.max())
    if lowest < bounds[0] or highest > bounds[1]:
        raise InvalidProof(
            "transcript-state", f"{tensor.name}: found values in [{lowest}, {highest}], expected {bounds}"
        )
    return values
