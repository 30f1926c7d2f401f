"""The outer step beside exact fractions: Nesterov's momentum, rounds of any size, an empty round."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.arithmetic import INT32_MAX
from ml.checkpoint import Checkpoint
from ml.models import build_program
from ml.program import Program
from ml.settlement import Delta, compute_next_checkpoint
from ml.spec import DIGITS, Mlp

SHAPES = ((3, 4), (2, 3))
Values = list[int]
"""Every weight of a model, by parameter and by rows."""


def make_program(momentum: int, rate: int) -> Program:
    return build_program(replace(DIGITS, model=Mlp((4, 3, 2)), outer_momentum=momentum, outer_rate=rate))


def make_parts(values: Sequence[int]) -> tuple[np.ndarray, ...]:
    parts, start = [], 0
    for rows, columns in SHAPES:
        parts.append(np.array(values[start : start + rows * columns], np.int32).reshape(rows, columns))
        start += rows * columns
    return tuple(parts)


def make_delta(mantissas: Values, exponents: Values) -> Delta:
    parts = make_parts(mantissas)
    rows = np.split(np.array(exponents, np.int32).reshape(-1, 1), [len(parts[0])])
    return tuple((part.astype(np.int8), own) for part, own in zip(parts, rows, strict=True))


def list_values(parts: Sequence[np.ndarray]) -> Values:
    return [int(value) for part in parts for value in part.reshape(-1)]


def dequantise(delta: Delta) -> Values:
    return [
        value * 2**exponent
        for mantissas, exponents in delta
        for row, (exponent,) in zip(mantissas.tolist(), exponents.tolist(), strict=True)
        for value in row
    ]


def round_half_up(x: Fraction) -> int:
    return floor(x + Fraction(1, 2))


def saturate(x: int) -> int:
    return max(-INT32_MAX, min(INT32_MAX, x))


def settle_naively(
    weight: int, momentum: int, deltas: Values, outer_momentum: Fraction, outer_rate: Fraction
) -> tuple[int, int]:
    """Return weight and momentum after a round: Nesterov's rule, rounded only where it says so."""
    if not deltas:
        return weight, momentum
    mu = outer_momentum if len(deltas) > 1 else Fraction(0)
    mean = int(Fraction(sum(deltas), len(deltas)))
    carried = saturate(mean + round_half_up(mu * momentum))
    step = mean + round_half_up(mu * carried)
    return saturate(weight + round_half_up(outer_rate * step)), carried


mantissas = st.lists(st.integers(-127, 127), min_size=18, max_size=18)
exponents = st.lists(st.integers(0, 25), min_size=5, max_size=5)
weights = st.lists(st.integers(-INT32_MAX, INT32_MAX), min_size=18, max_size=18)
rounds = st.lists(st.lists(st.tuples(mantissas, exponents), max_size=4), min_size=1, max_size=3)


@given(st.integers(0, 15), st.integers(1, 16), weights, rounds)
def test_any_rounds_are_those_of_exact_fractions(
    momentum: int, rate: int, start: Values, history: list[list[tuple[Values, Values]]]
) -> None:
    program = make_program(momentum, rate)
    checkpoint = Checkpoint(make_parts(start), make_parts([0] * len(start)))
    expected = [(weight, 0) for weight in start]
    for contributions in history:
        deltas = [make_delta(*contribution) for contribution in contributions]
        checkpoint = compute_next_checkpoint(program, checkpoint, deltas)
        columns = list(zip(*map(dequantise, deltas), strict=True)) or [()] * len(start)
        expected = [
            settle_naively(*pair, list(column), Fraction(momentum, 16), Fraction(rate, 16))
            for pair, column in zip(expected, columns, strict=True)
        ]
    found = zip(list_values(checkpoint.weights), list_values(checkpoint.momentum), strict=True)
    assert list(found) == expected


def test_momentum_is_nesterovs_and_no_heavy_ball() -> None:
    program, zero = make_program(8, 16), make_parts([0] * 18)
    delta = make_delta([100] * 18, [0] * 5)
    first = compute_next_checkpoint(program, Checkpoint(zero, zero), [delta, delta])
    # A heavy ball would move by 100 and then by 150: Nesterov's rule looks one step ahead of either.
    assert set(list_values(first.weights)) == {150}
    second = compute_next_checkpoint(program, first, [delta, delta])
    assert set(list_values(second.weights)) == {150 + 175}
    assert set(list_values(second.momentum)) == {150}


@pytest.mark.parametrize("present", [(0,), (1, 3), (0, 2, 3), (0, 1, 2, 3)])
def test_a_round_is_the_mean_of_whoever_came(present: tuple[int, ...]) -> None:
    program, zero = make_program(0, 16), make_parts([0] * 18)
    deltas = [make_delta([value] * 18, [2] * 5) for value in (-9, 4, 50, 8)]
    found = compute_next_checkpoint(program, Checkpoint(zero, zero), [deltas[place] for place in present])
    mean = Fraction(sum(4 * (-9, 4, 50, 8)[place] for place in present), len(present))
    assert set(list_values(found.weights)) == {int(mean)}


def test_the_order_of_contributors_changes_no_bit() -> None:
    rng, program = np.random.default_rng(3), make_program(8, 11)
    start = Checkpoint(make_parts(list(range(18))), make_parts([7] * 18))
    deltas = [make_delta(rng.integers(-127, 128, 18).tolist(), rng.integers(0, 26, 5).tolist()) for _ in range(4)]
    one, other = (compute_next_checkpoint(program, start, order) for order in (deltas, deltas[::-1]))
    assert list_values((*one.weights, *one.momentum)) == list_values((*other.weights, *other.momentum))


def test_an_empty_round_keeps_weights_and_momentum() -> None:
    program, start = make_program(8, 16), Checkpoint(make_parts(list(range(18))), make_parts([5] * 18))
    assert compute_next_checkpoint(program, start, []) is start


def test_a_lone_round_carries_nothing_of_the_last_one_over() -> None:
    program, start = make_program(8, 16), Checkpoint(make_parts([0] * 18), make_parts([1 << 20] * 18))
    found = compute_next_checkpoint(program, start, [make_delta([1] * 18, [0] * 5)])
    assert set(list_values(found.weights)) == {1}
    assert set(list_values(found.momentum)) == {1}
