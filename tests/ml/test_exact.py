"""The reference never wraps: each op again in Python's unbounded integers, at the ends of every range.

NumPy wraps silently, so an overflow in the authority would be faithfully copied by every backend. What is written here
shares no code with it: it follows the definitions of the protocol page, one element at a time.
"""

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml import arithmetic
from ml.arithmetic import I32, INT32_MAX
from ml.backends import get_backend
from ml.rotary import get_rotation_table

REFERENCE = get_backend("reference")
LOG2_E = 1_549_082_005
ENDS = (0, 1, -1, 2, 63, 64, 1 << 16, -(1 << 16), 1 << 24, (1 << 25) + 1, INT32_MAX, -INT32_MAX, INT32_MAX - 1)
NUMBERS = st.one_of(st.sampled_from(ENDS), st.integers(-INT32_MAX, INT32_MAX), st.integers(-(1 << 20), 1 << 20))
EXP2 = [int(x) for x in arithmetic.get_exp2_table()]


def rows_of(count: int, least: int = 1, most: int = 9) -> st.SearchStrategy[list[list[int]]]:
    """Return `count` lists of one drawn length."""
    return st.integers(least, most).flatmap(
        lambda n: st.lists(st.lists(NUMBERS, min_size=n, max_size=n), min_size=count, max_size=count)
    )


def as_row(values: list[int]) -> I32:
    return np.array([values], np.int32)


def half_up(x: int, shift: int) -> int:
    return (x + (1 << shift >> 1)) >> shift


def clamp(x: int) -> int:
    return max(-INT32_MAX, min(INT32_MAX, x))


def floor_magnitude(x: int, divisor: int) -> int:
    return abs(x) // divisor * (1 if x >= 0 else -1)


def compute_norm(x: list[int]) -> tuple[list[int], int, int, int]:
    drop = max(0, max(abs(v) for v in x).bit_length() - 24)
    short = [half_up(v, drop) for v in x]
    squares = sum(v * v for v in short) + (len(x) * 64 >> 2 * drop)
    even = (62 - squares.bit_length()) // 2 * 2
    long = (isqrt(len(x) << 40) << 36) // isqrt(squares << even)
    cut = max(0, long.bit_length() - 31)
    return short, drop, long >> cut, 40 - even // 2 - cut


def normalise(x: list[int]) -> list[int]:
    short, _, reciprocal, shift = compute_norm(x)
    return [clamp(half_up(v * reciprocal, shift)) for v in short]


@given(rows_of(1, most=40))
def test_normalise(rows: list[list[int]]) -> None:
    assert REFERENCE.normalise(as_row(rows[0])).tolist() == [normalise(rows[0])]


@given(rows_of(2, most=40))
def test_normalise_backward(rows: list[list[int]]) -> None:
    x, g = rows
    _, drop, reciprocal, shift = compute_norm(x)
    y = normalise(x)
    mean = half_up(floor_magnitude(sum(a * b for a, b in zip(g, y, strict=True)), len(x)), 16)
    rest = [clamp(a - half_up(b * mean, 16)) for a, b in zip(g, y, strict=True)]
    expected = [clamp(half_up(v * reciprocal, shift + drop)) for v in rest]
    assert REFERENCE.normalise_backward(as_row(g), as_row(x)).tolist() == [expected]


@pytest.mark.parametrize("width", [1, 3, 1024, 8_192])
@pytest.mark.parametrize("value", [0, 1, 1 << 16, 1 << 24, INT32_MAX])
def test_normalise_at_its_widest(width: int, value: int) -> None:
    signs = [1 if i % 3 else -1 for i in range(width)]
    x, g = [value * sign for sign in signs], [INT32_MAX * sign for sign in signs]
    assert REFERENCE.normalise(as_row(x)).tolist() == [normalise(x)]
    _, drop, reciprocal, shift = compute_norm(x)
    y = normalise(x)
    mean = half_up(floor_magnitude(sum(a * b for a, b in zip(g, y, strict=True)), width), 16)
    rest = [clamp(a - half_up(b * mean, 16)) for a, b in zip(g, y, strict=True)]
    expected = [clamp(half_up(v * reciprocal, shift + drop)) for v in rest]
    assert REFERENCE.normalise_backward(as_row(g), as_row(x)).tolist() == [expected]


@given(rows_of(1, least=2, most=60))
def test_normalise_is_near_the_real_quotient(rows: list[list[int]]) -> None:
    x = rows[0]
    norm = Fraction(sum(v * v for v in x), len(x)) + 64
    for value, found in zip(x, REFERENCE.normalise(as_row(x))[0].tolist(), strict=True):
        # found / 2**16 squared is near value**2 / norm.
        real = Fraction(value * value) / norm
        assert abs(Fraction(found, 1 << 16) ** 2 - real) <= Fraction(1, 1 << 12) * (1 + real)


@given(rows_of(2))
def test_relu_squared(rows: list[list[int]]) -> None:
    h, g = rows
    positive = [max(v, 0) for v in h]
    assert REFERENCE.relu_squared(as_row(h)).tolist() == [[clamp(half_up(v * v, 16)) for v in positive]]
    expected = [clamp(half_up(v * d, 15)) for v, d in zip(positive, g, strict=True)]
    assert REFERENCE.relu_squared_backward(as_row(g), as_row(h)).tolist() == [expected]
    assert REFERENCE.add(as_row(h), as_row(g)).tolist() == [[clamp(a + b) for a, b in zip(h, g, strict=True)]]


@given(NUMBERS, st.integers(0, 25), st.integers(0, 25), st.sampled_from([16, 20, 24, 26]))
def test_rescale(product: int, a: int, b: int, shift: int) -> None:
    left = a + b - shift
    expected = clamp(product << left) if left >= 0 else clamp(half_up(product, -left))
    left_exponent, right_exponent = (np.full((1, 1), value, np.int32) for value in (a, b))
    found = REFERENCE.rescale(as_row([product]), left_exponent, right_exponent, shift)
    assert found.tolist() == [[expected]]


def exp2(power: int) -> int:
    whole, index, rest = power >> 24, power >> 16 & 255, power & 0xFFFF
    if whole >= 32:
        return 0
    return half_up(EXP2[index] - ((EXP2[index] - EXP2[index + 1]) * rest >> 16), whole)


def softmax(z: list[int], scale: int) -> tuple[list[int], list[int], int]:
    """Return probabilities F24, powers F24 and the sum of the terms."""
    powers = [half_up((max(z) - v) * scale, 22) for v in z]
    terms = [exp2(power) for power in powers]
    return [term * (2**62 // sum(terms)) >> 38 for term in terms], powers, sum(terms)


@given(rows_of(1, least=2), st.data())
def test_loss(rows: list[list[int]], data: st.DataObject) -> None:
    z = rows[0]
    label = data.draw(st.integers(0, len(z) - 1))
    p, powers, total = softmax(z, LOG2_E)
    gradient, loss = REFERENCE.compute_loss_gradient(as_row(z), np.array([[label]], np.int32))
    assert gradient.tolist() == [[v - (1 << 24 if i == label else 0) for i, v in enumerate(p)]]
    bits = int(arithmetic.compute_log2(np.array([total]))[0]) - (30 << 16) + half_up(powers[label], 8)
    assert loss.tolist() == [[clamp(max(bits, 0))]]


@pytest.mark.parametrize("head_width", [1, 2, 32, 64, 80])
@given(st.data())
def test_causal_softmax(head_width: int, data: st.DataObject) -> None:
    context = data.draw(st.integers(1, 6))
    row = st.lists(NUMBERS, min_size=context, max_size=context)
    scores, gradient = (data.draw(st.lists(row, min_size=context, max_size=context)) for _ in range(2))
    p = REFERENCE.causal_softmax(np.array(scores, np.int32), head_width)
    ds = REFERENCE.causal_softmax_backward(p, np.array(gradient, np.int32), head_width)
    scale, root = (LOG2_E << 30) // isqrt(head_width << 60), (1 << 46) // isqrt(head_width << 60)
    for i in range(context):
        expected = softmax(scores[i][: i + 1], scale)[0] + [0] * (context - i - 1)
        assert p[i].tolist() == expected
        mean = half_up(sum(a * b for a, b in zip(expected, gradient[i], strict=True)), 24)
        pairs = zip(expected, gradient[i], strict=True)
        assert ds[i].tolist() == [clamp(half_up(half_up(a * (b - mean), 20) * root, 16)) for a, b in pairs]


@given(rows_of(1, least=2, most=2), st.integers(0, 63), st.booleans())
def test_rotate(rows: list[list[int]], position: int, is_inverse: bool) -> None:
    first, second = rows[0]
    table = get_rotation_table(64, 2)
    c, s = (int(part[position, 0]) for part in table)
    s = -s if is_inverse else s
    x = np.tile(np.array([[first, second]], np.int32), (64, 1))
    expected = [clamp(half_up(first * c - second * s, 30)), clamp(half_up(first * s + second * c, 30))]
    assert REFERENCE.rotate(x, table, is_inverse)[position].tolist() == expected


def reciprocal_root(x: int) -> tuple[int, int]:
    even = (x.bit_length() + 1) // 2 * 2
    mantissa = x >> even - 31 if even >= 31 else x << 31 - even
    y = 2_867_780_533 - (mantissa * (3_527_609_214 - (mantissa * 1_759_392_583 >> 31)) >> 31)
    for _ in range(2):
        y = y * ((3 << 30) - (mantissa * (y * y >> 30) >> 31)) >> 31
    return y, 30 + even // 2


@given(st.one_of(st.integers(1, 2**62 - 1), st.integers(0, 61).map(lambda bits: 1 << bits), st.integers(1, 4096)))
def test_reciprocal_root(x: int) -> None:
    found = arithmetic.compute_reciprocal_root(np.array([x]))
    y, shift = reciprocal_root(x)
    assert (int(found[0][0]), int(found[1][0])) == (y, shift)
    # y**2 x / 2**(2 shift) is 1 to about 2**-18.
    assert abs(Fraction(y * y * x, 1 << 2 * shift) - 1) < Fraction(1, 1 << 17)


@given(
    st.tuples(NUMBERS, NUMBERS, st.integers(0, (2**27 - 1) ** 2), NUMBERS),
    st.integers(0, 3000),
    st.integers(0, 2**29 - 1),
    st.integers(0, 2**32 - 1),
)
def test_adam(values: tuple[int, int, int, int], step: int, rate: int, decay: int) -> None:
    w, m, v, gradient = values
    state = (as_row([w]), as_row([m]), np.array([[v]], np.int64))
    found = REFERENCE.update_adam(state, as_row([gradient]), step, rate, decay)
    g = max(-(2**27 - 1), min(2**27 - 1, gradient))
    m += half_up((g << 4) - m, 3)
    v += half_up(g * g - v, 6)
    y, shift = reciprocal_root(v + 256)
    size = min(abs(m) * y >> shift - 12, 10 << 16) * arithmetic.compute_bias_correction(step) >> 30
    update = size if m > 0 else -size
    moved = clamp(w - half_up(update * rate, 24) - half_up(w * decay, 32))
    assert [part.tolist() for part in found] == [[[moved]], [[m]], [[v]]]


def test_adam_at_the_ends_of_its_moments() -> None:
    top = (2**27 - 1) << 4
    for w, m, decay in ((INT32_MAX, top, 2**32 - 1), (-INT32_MAX, -top, 2**32 - 1), (INT32_MAX, -top, 0)):
        test_adam.hypothesis.inner_test((w, m, (2**27 - 1) ** 2, m >> 4), 0, 2**29 - 1, decay)  # type: ignore[attr-defined]


def test_sums_over_tokens_are_exact_at_their_bound() -> None:
    tokens = np.zeros((16_384, 1), np.int32)
    transposed = np.full((2, 16_384), INT32_MAX, np.int32)
    transposed[1] = -INT32_MAX
    for shift in (8, 12, 22):
        expected = [clamp(half_up(16_384 * sign * INT32_MAX, shift)) for sign in (1, -1)]
        assert REFERENCE.compute_embedding_gradient(transposed, tokens, 2, shift).tolist() == [expected, [0, 0]]
        assert REFERENCE.compute_position_gradient(transposed, 1, shift).tolist() == [expected]
