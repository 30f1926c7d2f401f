"""The angles of rotary positions as integers: cosines and sines in F30, by series over exact fixed point.

No library computes them, so every machine has the same table. Source: Su et al. 2021 (RoFormer): position t turns pair
i of a head of width w by t * 10000**(-2 i / w).
"""

from functools import cache, lru_cache

import numpy as np

from ml.arithmetic import I32

ROTATION_BITS = 30
_BITS = 128
TABLES_KEPT = 64
"""Tables in memory; programs of strangers must not add to them for ever."""
_ONE = 1 << _BITS
_BASE = 10_000


@lru_cache(TABLES_KEPT)
def get_rotation_table(context: int, head_width: int) -> tuple[I32, I32]:
    """Return cosines and sines (context, head_width // 2) int32 F30 of each position and pair."""
    cosines = np.empty((context, head_width // 2), np.int32)
    sines = np.empty_like(cosines)
    for pair in range(head_width // 2):
        step_cosine, step_sine = _turn(_exponential(-2 * pair * _logarithm(_BASE) // head_width))
        cosine, sine = _ONE, 0
        for position in range(context):
            cosines[position, pair], sines[position, pair] = _to_f30(cosine), _to_f30(sine)
            # Each turn loses a unit of 2**-128 or two, far below F30 for any context.
            cosine, sine = (
                _multiply(cosine, step_cosine) - _multiply(sine, step_sine),
                _multiply(cosine, step_sine) + _multiply(sine, step_cosine),
            )
    for table in (cosines, sines):
        table.setflags(write=False)
    return cosines, sines


def _to_f30(x: int) -> int:
    shift = _BITS - ROTATION_BITS
    return (x + (1 << shift - 1)) >> shift


def _multiply(x: int, y: int) -> int:
    return x * y >> _BITS


@cache
def _logarithm(n: int) -> int:
    """Return ln(n) by 2 artanh((n - 1) / (n + 1))."""
    ratio = ((n - 1) << _BITS) // (n + 1)
    total, power, k = 0, ratio, 1
    while power:
        total += power // k
        power = _multiply(power, _multiply(ratio, ratio))
        k += 2
    return 2 * total


def _exponential(x: int) -> int:
    """Return e**x for x <= 0, by halving x until the series is short and squaring back."""
    halvings = 16
    small = x >> halvings
    total, term, k = _ONE, _ONE, 1
    while term not in (0, -1):
        term = _multiply(term, small) // k
        total += term
        k += 1
    for _ in range(halvings):
        total = _multiply(total, total)
    return total


def _turn(angle: int) -> tuple[int, int]:
    """Return cosine and sine of 0 <= angle <= 1 by their series."""
    cosine, sine, term, k = 0, 0, _ONE, 0
    while term:
        signed = -term if k & 2 else term
        if k & 1:
            sine += signed
        else:
            cosine += signed
        k += 1
        term = _multiply(term, angle) // k
    return cosine, sine
