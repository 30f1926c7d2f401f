"""The integer rules against Python's own integers, at and around every bound."""

import hashlib
from math import isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml import arithmetic, prf
from ml.arithmetic import INT32_MAX

INT62 = st.integers(-(2**62), 2**62 - 1)


def as_array(*values: int) -> arithmetic.I64:
    return np.array(values, np.int64)


@given(INT62, st.integers(0, 40))
def test_round_shift_rounds_half_up(x: int, shift: int) -> None:
    expected = (2 * x + 2**shift) // 2 ** (shift + 1)
    assert arithmetic.round_shift(as_array(x), shift).tolist() == [expected]


@given(INT62)
def test_a_shift_by_nothing_changes_nothing(x: int) -> None:
    assert arithmetic.round_shift(as_array(x), 0).tolist() == [x]
    assert arithmetic.scale_shift(as_array(x), 0).tolist() == [x]


@given(st.integers(-(2**31), 2**31), st.integers(-30, 24))
def test_scale_shift_goes_both_ways(x: int, shift: int) -> None:
    expected = x * 2**-shift if shift < 0 else (x + (2**shift // 2)) >> shift
    assert arithmetic.scale_shift(as_array(x), shift).tolist() == [expected]


@given(INT62)
def test_int32_min_never_occurs(x: int) -> None:
    assert arithmetic.saturate(as_array(x)).tolist() == [max(-INT32_MAX, min(INT32_MAX, x))]


@given(st.integers(0, 2**62))
def test_bit_length(x: int) -> None:
    assert arithmetic.compute_bit_length(as_array(x)).tolist() == [x.bit_length()]


@given(st.integers(0, 2**31 - 1), st.integers(-1, 1))
def test_isqrt_around_squares(root: int, offset: int) -> None:
    x = max(0, root * root + offset)
    assert arithmetic.compute_isqrt(as_array(x)).tolist() == [isqrt(x)]


@given(st.integers(0, 2**62 - 1))
def test_isqrt(x: int) -> None:
    assert arithmetic.compute_isqrt(as_array(x)).tolist() == [isqrt(x)]


@given(INT62, st.integers(1, 2**31))
def test_division_floors_magnitudes(x: int, divisor: int) -> None:
    quotient = abs(x) // divisor
    assert arithmetic.divide_magnitude(as_array(x), divisor).tolist() == [-quotient if x < 0 else quotient]


def test_exp2_table_is_the_published_one() -> None:
    table = arithmetic.get_exp2_table()
    assert table[[0, 128, 256]].tolist() == [2**30, isqrt(2**59), 2**29]
    digest = hashlib.sha256(table.astype("<i8").tobytes()).hexdigest()
    assert digest == "ebd643d2a5274079165311966eaa5f9a680b7f5aba6b524a92abc45079f096a2"


def test_log2_e_is_rounded_to_nearest() -> None:
    # e by its series in F120, then the bits of log2(e / 2) one by one by squaring.
    e, term = 0, 1 << 120
    for k in range(1, 40):
        e, term = e + term, term // k
    bits, x = 1, e >> 1
    for _ in range(31):
        x, bits = x * x >> 120, bits << 1
        if x >> 121:
            x, bits = x >> 1, bits | 1
    assert (bits + 1) >> 1 == arithmetic.LOG2_E_F30


@given(st.integers(0, 2**40))
def test_exp2_halves_every_whole_power(x: int) -> None:
    value = int(arithmetic.compute_exp2(as_array(x))[0])
    double = int(arithmetic.compute_exp2(as_array(x + (1 << 24)))[0])
    assert abs(value - 2 * double) <= 2
    assert 0 <= value <= 2**30


@given(st.integers(1, 2**62 - 1))
def test_log2_brackets_its_argument(x: int) -> None:
    result = int(arithmetic.compute_log2(as_array(x))[0])
    assert result >> 16 == x.bit_length() - 1
    assert int(arithmetic.compute_log2(as_array(min(2 * x, 2**62 - 1)))[0]) >= result


def test_bias_correction_starts_at_one_and_ends_at_one() -> None:
    corrections = [arithmetic.compute_bias_correction(step) for step in range(1024)]
    assert corrections[0] == 1 << 30
    assert max(corrections) <= 1 << 30
    assert corrections[-1] > (1 << 30) * 999 // 1000


def test_normal_has_the_right_spread() -> None:
    sample = arithmetic.compute_normal(prf.compute_prf_array(7, 3 * 10_000))
    assert abs(int(sample.sum())) < 10_000 * 2_000
    variance = int((sample * sample).sum()) // 10_000
    assert abs(variance - 2**32) < 2**32 // 20


@given(st.integers(0, 2**64 - 1), st.integers(1, 200), st.integers(1, 2**32 - 1))
def test_prf_arrays_equal_single_draws(key: int, count: int, bound: int) -> None:
    assert prf.compute_prf_array(key, count).tolist() == [prf.compute_prf(key, i) for i in range(count)]
    draws = prf.draw_array_below(key, count, bound).tolist()
    assert draws == [prf.draw_below(key, i, bound) for i in range(count)]
    assert max(draws) < bound


def test_prf_is_splitmix64() -> None:
    assert [prf.compute_prf(1234567, i) for i in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@pytest.mark.parametrize("place", [(1, 0), (0, 1)])
def test_keys_differ_by_step_and_op(place: tuple[int, int]) -> None:
    assert prf.compute_key(bytes(32), *place) != prf.compute_key(bytes(32), 0, 0)
