"""Rates rise and fall from round to round and from step to step; weight decay adds up, however often it is taken."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import DecodeError, InvalidProof
from chain.hashing import tagged_hash
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.checks import make_check_context
from ml.dataset import load_digits
from ml.models import build_program
from ml.openings import Place
from ml.program import OpKind
from ml.proving import open_place, rerun_step, verify_opening
from ml.segment import RATE_FLOOR, Runner, compute_rates, compute_round_rate
from ml.spec import DIGITS, Mlp, validate_spec
from ml.tensor_tree import compute_tensor_root
from ml.trace import Trace, compute_step_roots

LONG = replace(DIGITS, segment_steps=200, warmup_steps=10, decay_steps=100)


@pytest.mark.parametrize("weight_decay", [1 << 20, 1 << 28, (1 << 32) - 1])
def test_all_decay_is_taken(weight_decay: int) -> None:
    spec = replace(LONG, weight_decay=weight_decay)
    rates, decays = zip(*(compute_rates(spec, 0, step) for step in range(spec.segment_steps)), strict=True)
    assert abs(sum(decays) - (sum(rates) * weight_decay >> 32)) <= spec.segment_steps


def test_weak_decay_waits_and_strong_decay_does_not() -> None:
    weak, strong = replace(LONG, weight_decay=1 << 28), replace(LONG, weight_decay=(1 << 32) - 1)
    taken = [[step for step in range(200) if compute_rates(spec, 0, step)[1]] for spec in (weak, strong)]
    assert taken[0] == [*range(15, 200, 16), 199]
    assert taken[1] == list(range(200))


def test_decay_is_strong_or_weak_by_the_rate_of_its_round() -> None:
    spec = replace(LONG, weight_decay=(1 << 32) - 1, decay_rounds=8)
    taken = [[step for step in range(200) if compute_rates(spec, number, step)[1]] for number in (0, 8)]
    assert taken == [list(range(200)), [*range(15, 200, 16), 199]]


def test_decay_never_turns_a_weight_around() -> None:
    spec = replace(LONG, learning_rate=(1 << 29) - 1, weight_decay=(1 << 32) - 1)
    assert max(compute_rates(spec, 0, step)[1] for step in range(200)) < 1 << 32


@given(st.integers(0, 400), st.integers(0, 40), st.integers(0, 200), st.integers(1, (1 << 29) - 1))
def test_a_round_has_the_rate_of_its_middle(task_round: int, rising: int, falling: int, top: int) -> None:
    spec = replace(LONG, learning_rate=top, warmup_rounds=rising, decay_rounds=falling)
    middle, exact = Fraction(2 * task_round + 1, 2), Fraction(top)
    if rising:
        exact *= min(middle / rising, Fraction(1))
    if falling:
        exact *= max(1 - middle / falling, Fraction(1, RATE_FLOOR))
    assert 0 <= exact - compute_round_rate(spec, task_round) < 2


def test_a_spec_without_rounds_trains_all_of_them_alike() -> None:
    assert {compute_rates(DIGITS, task_round, 9) for task_round in range(100)} == {compute_rates(DIGITS, 0, 9)}


def test_a_rate_does_not_rise_longer_than_it_falls() -> None:
    validate_spec(replace(DIGITS, warmup_rounds=9))
    validate_spec(replace(DIGITS, warmup_rounds=9, decay_rounds=9))
    with pytest.raises(DecodeError, match="warm-up of at most 8 rounds"):
        validate_spec(replace(DIGITS, warmup_rounds=9, decay_rounds=8))


def test_an_update_is_checked_by_the_rate_of_its_round() -> None:
    spec = replace(DIGITS, model=Mlp((64, 6, 10)), batch=5, segment_steps=1, warmup_steps=0, decay_steps=0)
    program = build_program(replace(spec, warmup_rounds=2, decay_rounds=8))
    checkpoint, data = compute_initial_checkpoint(program), load_digits(DIGITS.heldout)
    seed = tagged_hash("test", b"round")
    runner = Runner(program, get_backend("reference"), data, seed, checkpoint, task_round=5)
    tensors = rerun_step(runner, 0)
    trace = Trace(program, tuple(map(compute_tensor_root, checkpoint.weights)), compute_step_roots(program, 0, tensors))
    context = make_check_context(runner)
    place = Place(0, next(op.index for op in program.ops if op.kind is OpKind.ADAM), 0, 0, 0)
    opening = open_place(context, place, tensors)
    verify_opening(context, trace, place, opening)
    with pytest.raises(InvalidProof, match="adam"):
        verify_opening(replace(context, task_round=0), trace, place, opening)
