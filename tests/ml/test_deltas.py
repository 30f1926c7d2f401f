"""A delta's bytes: as small as its bits allow, one form only, and nothing but what the trace commits to."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from ml.arithmetic import I32, INT32_MAX, IntArray
from ml.backends import get_backend
from ml.deltas import compute_delta_size, decode_delta, encode_delta, pack_mantissas, unpack_mantissas
from ml.models import build_program
from ml.program import Dtype, Program, TensorId
from ml.spec import DELTA_BITS, DIGITS, Mlp
from ml.tensor_tree import compute_tensor_root
from ml.trace import compute_output_roots_size

PROGRAMS = {
    bits: build_program(
        replace(DIGITS, model=Mlp((7, 5, 3)), batch=5, segment_steps=2, warmup_steps=1, decay_steps=1, delta_bits=bits)
    )
    for bits in DELTA_BITS
}
NUMPY = {Dtype.INT8: "int8", Dtype.INT32: "int32"}


BACKENDS = (get_backend("reference"), get_backend("cpu"))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[I32, I32]:
    """Return weights after and before, whose rows differ by some or by all of their bits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 90))
    shifts = rng.integers(0, 31, (2, shape[0], 1))
    after, before = (rng.integers(-INT32_MAX, INT32_MAX, shape, endpoint=True) >> shift for shift in shifts)
    return after.astype(np.int32), before.astype(np.int32)


@pytest.mark.parametrize("bits", DELTA_BITS)
@given(both=pairs())
def test_a_delta_is_the_nearest_multiple_of_its_rows_power(bits: int, both: tuple[I32, I32]) -> None:
    highest, rows = 2 ** (bits - 1) - 1, range(len(both[0]))
    differences = [[a - b for a, b in zip(both[0][i].tolist(), both[1][i].tolist(), strict=True)] for i in rows]
    exponents = [max(0, max(map(abs, row)).bit_length() - bits + 1) for row in differences]
    nearest = [[(2 * d + 2**e) // 2 ** (e + 1) for d in row] for row, e in zip(differences, exponents, strict=True)]
    for backend in BACKENDS:
        mantissas, own = backend.quantise_delta(*both, bits)
        assert (str(mantissas.dtype), str(own.dtype), own[:, 0].tolist()) == ("int8", "int32", exponents)
        assert mantissas.tolist() == [[min(max(m, -highest), highest) for m in row] for row in nearest]


@pytest.mark.parametrize(("bits", "expected"), [(8, (127, 25)), (4, (7, 29))])
def test_the_widest_delta_fits(bits: int, expected: tuple[int, int]) -> None:
    after, before = np.full((1, 2), INT32_MAX, np.int32), np.full((1, 2), -INT32_MAX, np.int32)
    for backend in BACKENDS:
        mantissas, own = backend.quantise_delta(after, before, bits)
        assert (mantissas.tolist(), own.tolist()) == ([[expected[0]] * 2], [[expected[1]]])


def get_outputs(program: Program) -> list[TensorId]:
    return [output for op in program.delta_ops for output in op.outputs]


def make_delta(program: Program) -> dict[TensorId, IntArray]:
    """Return mantissas of both signs and the exponents that a row may have."""
    rng, tensors = np.random.default_rng(1), [program.tensors[output] for output in get_outputs(program)]
    low = {Dtype.INT8: -(2 ** (program.spec.delta_bits - 1)) + 1, Dtype.INT32: 0}
    high = {Dtype.INT8: -low[Dtype.INT8], Dtype.INT32: 33 - program.spec.delta_bits}
    return {
        t.id: rng.integers(low[t.dtype], high[t.dtype], (t.rows, t.columns), NUMPY[t.dtype], endpoint=True)
        for t in tensors
    }


def make_roots(program: Program, delta: dict[TensorId, IntArray]) -> bytes:
    roots = b"".join(compute_tensor_root(delta[output]) for output in get_outputs(program))
    earlier = compute_output_roots_size(program) - len(roots)
    return b"".join(tagged_hash("test", bytes([place])) for place in range(earlier // 32)) + roots


@pytest.mark.parametrize("bits", DELTA_BITS)
def test_a_delta_decodes_to_what_was_encoded_and_is_bound(bits: int) -> None:
    program = PROGRAMS[bits]
    delta = make_delta(program)
    data, roots = encode_delta(program, delta), make_roots(program, delta)
    decoded = [array for pair in decode_delta(program, roots, data) for array in pair]
    for array, output in zip(decoded, get_outputs(program), strict=True):
        assert (array.dtype, array.tolist()) == (delta[output].dtype, delta[output].tolist())
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidProof, match=r"delta-(root|padding)"):
            decode_delta(program, roots, bytes(changed))
    for other in (data[:-1], data + bytes(1), b""):
        with pytest.raises(InvalidProof, match="delta-size"):
            decode_delta(program, roots, other)


def test_a_parameter_takes_its_bits_and_a_row_a_byte() -> None:
    rows, weights = 5 + 3, 5 * 7 + 3 * 5
    assert compute_delta_size(PROGRAMS[8]) == weights + rows
    # 35 and 15 halves: either parameter has one to spare.
    assert compute_delta_size(PROGRAMS[4]) == (weights + 2) // 2 + rows
    for program in PROGRAMS.values():
        assert len(encode_delta(program, make_delta(program))) == compute_delta_size(program)


@pytest.mark.parametrize(("bits", "output", "value"), [(8, 0, -128), (4, 0, -8), (8, 1, 26), (4, 1, 30), (4, 1, 255)])
def test_committed_values_out_of_range_are_refused(bits: int, output: int, value: int) -> None:
    program = PROGRAMS[bits]
    delta = make_delta(program)
    delta[get_outputs(program)[output]][0, 0] = value
    with pytest.raises(InvalidProof, match="delta-range"):
        decode_delta(program, make_roots(program, delta), encode_delta(program, delta))


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=40))
def test_halves_come_back_in_order(values: list[int]) -> None:
    packed = pack_mantissas(np.array([values], np.int8), 4)
    naive = [value & 15 for value in values] + [0] * (len(values) % 2)
    assert list(packed) == [low + 16 * high for low, high in zip(naive[::2], naive[1::2], strict=True)]
    assert unpack_mantissas(packed, len(values), 4).tolist() == values


def test_a_spare_half_must_be_zero() -> None:
    with pytest.raises(InvalidProof, match="delta-padding"):
        unpack_mantissas(b"\x21\x13", 3, 4)
