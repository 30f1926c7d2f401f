"""The rotation table is the rounded cosine and sine of each angle, by another route than the one that made it."""

from decimal import Decimal, getcontext

import numpy as np
import pytest

from ml.rotary import ROTATION_BITS, get_rotation_table

getcontext().prec = 60
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def compute_cosine(x: Decimal) -> Decimal:
    """Return the cosine by its series after taking out whole turns."""
    x = x.remainder_near(2 * PI)
    total, term, k = Decimal(0), Decimal(1), 0
    while abs(term) > Decimal(10) ** -50:
        total += term
        k += 2
        term = -term * x * x / (k * (k - 1))
    return total


@pytest.mark.parametrize(("context", "head_width"), [(5, 2), (130, 8), (1024, 64)])
def test_the_table_is_the_rounded_cosine_and_sine(context: int, head_width: int) -> None:
    cosines, sines = get_rotation_table(context, head_width)
    assert cosines.shape == sines.shape == (context, head_width // 2)
    for position in {0, 1, 2, context // 3, context - 1}:
        for pair in {0, 1 % (head_width // 2), head_width // 2 - 1}:
            angle = position * Decimal(10_000) ** (Decimal(-2 * pair) / head_width)
            for found, real in ((cosines, compute_cosine(angle)), (sines, compute_cosine(angle - PI / 2))):
                assert abs(int(found[position, pair]) - real * (1 << ROTATION_BITS)) < Decimal("0.5000001")


def test_a_turn_keeps_lengths() -> None:
    cosines, sines = (part.astype(np.int64) for part in get_rotation_table(300, 16))
    assert (np.abs(cosines * cosines + sines * sines - (1 << 2 * ROTATION_BITS)) < 1 << ROTATION_BITS + 1).all()
