"""Difficulty: the target of the next block from the clock alone, in integers (aserti3-2d).

Every half-life that the chain runs behind its schedule doubles the target. The result depends on the anchor and on the
parent's height and time, never on the path between them, so there is nothing to steer. It knows no header.
Source: the Bitcoin Cash upgrade of November 2020, ASERT specification; division truncates, as there.
"""

from chain.primitives import U256_MAX

TARGET_MAX = U256_MAX >> 15
"""Easier than this means nothing: the smallest ticket covers 32 * 32 * 32 MACs, and below it each one wins."""

_RADIX_BITS = 16
_RADIX = 1 << _RADIX_BITS
# 2^x on [0, 1) as a cubic in 16-bit fixed point, its error below 0.013 %.
_CUBIC = (195_766_423_245_049, 971_821_376, 5_127)


def compute_work(target: int) -> int:
    """Return the MACs that a block of this target is expected to cost: 2^256 // (target + 1)."""
    return (U256_MAX + 1) // (target + 1)


def compute_threshold(target: int, macs: int) -> int:
    """Return what the digest of a ticket that covers `macs` MACs must stay below, as a big-endian integer."""
    return min(target * macs, U256_MAX)


def compute_target(
    anchor_target: int, elapsed: int, blocks: int, interval: int, half_life: int, target_max: int = TARGET_MAX
) -> int:
    """Return the target after `blocks` intervals of schedule took `elapsed`, both counted from the anchor.

    `elapsed`, `interval` and `half_life` share one unit of time; the result lies in [1, target_max].
    """
    shifts, fraction = divmod(_truncate((elapsed - interval * blocks) * _RADIX, half_life), _RADIX)
    linear, square, cubic = _CUBIC
    curve = linear * fraction + square * fraction**2 + cubic * fraction**3 + (1 << 47)
    scaled = anchor_target * (_RADIX + (curve >> 48))
    # More bits than a target has decide nothing, and a far timestamp must not build a huge integer.
    shifts = min(shifts - _RADIX_BITS, 512)
    target = scaled << shifts if shifts >= 0 else scaled >> -shifts
    return max(1, min(target, target_max))


def _truncate(dividend: int, divisor: int) -> int:
    quotient = abs(dividend) // divisor
    return quotient if dividend >= 0 else -quotient
