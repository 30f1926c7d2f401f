"""Which places of a chain a compact proof must show: units of work, drawn ever denser towards the tip, in integers.

A place at distance d from the end of the work is drawn with a chance in proportion to 1/d, from genesis to where the
last stretch begins. No fork then has a better place than another to hide a given share of false work. It knows no
header and no clock: a seed decides all draws. Source: FlyClient (Bünz et al. 2019), section 6, the optimal density.
"""

from collections.abc import Callable

from chain.hashing import tagged_hash
from chain.header import Header
from chain.primitives import Hash

SAMPLES_MAX = 1_024
"""Places that one proof shows."""

SHARE_BITS = 1
"""The level counts against forks of which at most 2^-SHARE_BITS is earned: c = 1/2."""

# ln 2, from above, so that a count that uses it is never too small.
_LN2 = (6_932, 10_000)
_STEPS_PER_OCTAVE = 16


def compute_public_seed(tip: Header) -> Hash:
    """Return the seed that needs no secret: whoever would draw anew has to win another ticket for the tip.

    Foliage is left out because a winner can re-sign it for nothing. What the ticket was drawn under binds the parent's
    full hash, hence the whole chain before it; so the seed is worth what a check of the tip's ticket is worth.
    """
    return tagged_hash("flyclient.public", tip.foliage.parent_hash, tip.trunk.ticket.digest)


def compute_octaves(total_work: int, stretch_work: int) -> int:
    """Return log2(total_work / stretch_work) in 1/16, rounded up; `total_work` >= `stretch_work` >= 1."""
    quotient: int = -(-(total_work**_STEPS_PER_OCTAVE) // stretch_work**_STEPS_PER_OCTAVE)
    return (quotient - 1).bit_length()


def compute_sample_count(security_bits: int, total_work: int, stretch_work: int) -> int:
    """Return how many places let a fork of which half is earned pass with a chance of at most 2^-security_bits.

    One place hits false work with p = log2(1/c) / log2(1/delta), delta = stretch_work / total_work. As
    (1 - p)^m < e^(-p m), m = security_bits * ln 2 / p is enough.
    """
    numerator, denominator = _LN2
    octaves = compute_octaves(total_work, stretch_work)
    return -(-security_bits * octaves * numerator // (SHARE_BITS * _STEPS_PER_OCTAVE * denominator))


def draw_places(seed: Hash, total_work: int, stretch_work: int, count: int) -> tuple[int, ...]:
    """Return `count` units of work in [0, total_work - stretch_work), oldest first; some may be equal.

    Exact: an octave of distances evenly, a distance in it evenly, kept with a chance that makes the density 1/d.
    """
    assert 1 <= stretch_work < total_work
    draw_below = _make_draws(seed)
    return tuple(sorted(total_work - _draw_distance(draw_below, total_work, stretch_work) for _ in range(count)))


def _draw_distance(draw_below: Callable[[int], int], total: int, stretch: int) -> int:
    doublings = ((total - 1) // stretch).bit_length() - 1
    while True:
        octave = stretch << draw_below(doublings + 1)
        # A lone octave is cut to the chain, or a chain hardly longer than its stretch would be drawn for ever.
        width = octave if doublings else total - stretch
        distance = octave + 1 + draw_below(width)
        if distance <= total and draw_below(distance) < octave:
            return distance


def _make_draws(seed: Hash) -> Callable[[int], int]:
    """Return a function that draws evenly below its argument (at most 2^256), each time anew from `seed`."""
    counter = 0

    def draw_below(limit: int) -> int:
        nonlocal counter
        unused_bits = 256 - (limit - 1).bit_length()
        while True:
            block = tagged_hash("flyclient.draw", seed, counter.to_bytes(8, "little"))
            counter += 1
            drawn = int.from_bytes(block, "big") >> unused_bits
            if drawn < limit:
                return drawn

    return draw_below
