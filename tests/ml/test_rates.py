"""Weight decay adds up to the same, whether it is taken at every step or at every 16th."""

from dataclasses import replace

import pytest

from ml.segment import compute_rates
from ml.spec import DIGITS

LONG = replace(DIGITS, segment_steps=200, warmup_steps=10, decay_steps=100)


@pytest.mark.parametrize("weight_decay", [1 << 20, 1 << 28, (1 << 32) - 1])
def test_all_decay_is_taken(weight_decay: int) -> None:
    spec = replace(LONG, weight_decay=weight_decay)
    rates, decays = zip(*(compute_rates(spec, step) for step in range(spec.segment_steps)), strict=True)
    assert abs(sum(decays) - (sum(rates) * weight_decay >> 32)) <= spec.segment_steps


def test_weak_decay_waits_and_strong_decay_does_not() -> None:
    weak, strong = replace(LONG, weight_decay=1 << 28), replace(LONG, weight_decay=(1 << 32) - 1)
    taken = [[step for step in range(200) if compute_rates(spec, step)[1]] for spec in (weak, strong)]
    assert taken[0] == [*range(15, 200, 16), 199]
    assert taken[1] == list(range(200))


def test_decay_never_turns_a_weight_around() -> None:
    spec = replace(LONG, learning_rate=(1 << 29) - 1, weight_decay=(1 << 32) - 1)
    assert max(compute_rates(spec, step)[1] for step in range(200)) < 1 << 32
