"""The bytes of a segment's delta: for each parameter its packed mantissas, then one byte for the exponent of each row.

Two mantissas of 4 bits share a byte, as two's complement, the first in the low half. Bytes come from a peer: their
count is checked before anything is unpacked, and what they say must have the roots that the trace gives. It trains
nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from chain.errors import InvalidProof
from chain.primitives import Hash
from ml.arithmetic import I8, I32, get_delta_max
from ml.program import Op, Program, TensorId
from ml.tensor_tree import IntArray
from ml.trace import RootHasher, get_output_root, hash_one_by_one, validate_output_roots

U8 = npt.NDArray[np.uint8]

_HALF_BITS = 4


def compute_delta_size(program: Program) -> int:
    """Return the bytes of a segment's delta."""
    return sum(_count_mantissa_bytes(program, op) + _get_rows(program, op) for op in program.delta_ops)


def encode_delta(program: Program, tensors: Mapping[TensorId, IntArray]) -> bytes:
    """Return the delta ops' outputs, taken from a segment's last tensors, as bytes."""
    parts = []
    for op in program.delta_ops:
        mantissas, exponents = (tensors[output] for output in op.outputs)
        parts += [pack_mantissas(mantissas, program.spec.delta_bits), exponents.astype(np.uint8).tobytes()]
    return b"".join(parts)


def decode_delta(
    program: Program, output_roots: bytes, delta: bytes, hash_tensors: RootHasher = hash_one_by_one
) -> tuple[tuple[I8, I32], ...]:
    """Return mantissas (rows, columns) int8 and exponents (rows, 1) int32 of each parameter; raises InvalidProof.

    The bytes must be those that `output_roots` commits to, and every value within what the spec's bits allow.
    """
    validate_output_roots(program, output_roots)
    expected, start, pairs = compute_delta_size(program), 0, list[tuple[I8, I32]]()
    if len(delta) != expected:
        raise InvalidProof("delta-size", f"found {len(delta)} bytes, expected {expected}")
    for op in program.delta_ops:
        middle = start + _count_mantissa_bytes(program, op)
        stop = middle + _get_rows(program, op)
        mantissas, exponents = _unpack(program, op, delta[start:middle]), _get_exponents(delta[middle:stop])
        pairs.append((mantissas, exponents))
        start = stop
    _validate_roots(program, output_roots, hash_tensors([array for pair in pairs for array in pair]))
    for pair in pairs:
        _validate_ranges(program.spec.delta_bits, *pair)
    return tuple(pairs)


def pack_mantissas(mantissas: IntArray, bits: int) -> bytes:
    """Return mantissas (rows, columns) int8 of 8 or 4 bits by rows; of an odd count the last half byte is zero."""
    if bits != _HALF_BITS:
        return mantissas.astype(np.int8).tobytes()
    flat = mantissas.astype(np.uint8).reshape(-1) & 15
    padded: U8 = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    return (padded[0::2] | padded[1::2] << 4).astype(np.uint8).tobytes()


def unpack_mantissas(data: bytes, count: int, bits: int) -> I8:
    """Return `count` mantissas, the inverse of `pack_mantissas`; raises InvalidProof where a spare half is not zero."""
    if bits != _HALF_BITS:
        # A copy, which is not read-only: compiled hashing takes arrays of one kind.
        return np.frombuffer(data, np.int8, count).copy()
    packed = np.frombuffer(data, np.uint8)
    halves = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)
    if halves[count:].any():
        raise InvalidProof("delta-padding", f"found {int(halves[-1])} in the spare half byte, expected 0")
    # Half a byte's sign is its fourth bit.
    return ((halves[:count].astype(np.int8) ^ 8) - 8).astype(np.int8)


def _unpack(program: Program, op: Op, data: bytes) -> I8:
    tensor = program.tensors[op.outputs[0]]
    flat = unpack_mantissas(data, tensor.rows * tensor.columns, program.spec.delta_bits)
    return flat.reshape(tensor.rows, tensor.columns)


def _get_exponents(data: bytes) -> I32:
    return np.frombuffer(data, np.uint8).astype(np.int32).reshape(-1, 1)


def _validate_roots(program: Program, output_roots: bytes, found: Sequence[Hash]) -> None:
    outputs = [output for op in program.delta_ops for output in op.outputs]
    for output, root in zip(outputs, found, strict=True):
        expected = get_output_root(program, output_roots, program.steps - 1, output)
        if root != expected:
            name = program.tensors[output].name
            raise InvalidProof("delta-root", f"{name}: found other bytes than root {expected.hex()} names")


def _validate_ranges(bits: int, mantissas: I8, exponents: I32) -> None:
    # Two int32 differ by less than 2**32, whose bits are left to the mantissa or counted by the exponent.
    highest, exponent_max = get_delta_max(bits), 32 - (bits - 1)
    if int(mantissas.min()) < -highest:
        raise InvalidProof("delta-range", f"found mantissa {mantissas.min()}, expected at least {-highest}")
    if int(exponents.max()) > exponent_max:
        raise InvalidProof("delta-range", f"found an exponent outside [0, {exponent_max}]")


def _count_mantissa_bytes(program: Program, op: Op) -> int:
    tensor = program.tensors[op.outputs[0]]
    return -(-tensor.rows * tensor.columns * program.spec.delta_bits // 8)


def _get_rows(program: Program, op: Op) -> int:
    return program.tensors[op.outputs[1]].rows
