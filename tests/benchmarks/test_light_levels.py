"""docs/light-client.md shows the figures that its formulas give, and forks of a chain are hit as often as they say."""

import math
import random
from pathlib import Path

import pytest

from benchmarks.light_levels import (
    compute_bits,
    compute_block_share,
    compute_exact_count,
    compute_hit,
    compute_stretch_bits,
    make_tables,
)
from chain.hashing import tagged_hash
from consensus.sampling import draw_places

PAGE = (Path(__file__).parents[2] / "docs" / "light-client.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("place", range(4))
def test_the_page_shows_the_computed_tables(place: int) -> None:
    assert make_tables()[place] in PAGE


@pytest.mark.parametrize(("share", "depth"), [(1 / 2, 1_000), (1 / 2, 99_999), (1 / 4, 8_000), (1 / 10, 30_000)])
def test_a_place_hits_false_work_as_often_as_computed(share: float, depth: int) -> None:
    total, stretch, draws = 100_000, 100, 6_000
    places = draw_places(tagged_hash("test", str((share, depth)).encode()), total, stretch, draws)
    found = sum(total - depth <= place < total - share * depth for place in places) / draws
    computed = compute_hit(share, total / stretch)
    assert abs(found - computed) < 4 * math.sqrt(computed * (1 - computed) / draws)


@pytest.mark.parametrize(("power", "blocks"), [(1 / 4, 10), (1 / 3, 20)])
def test_the_last_stretch_is_outrun_less_often_than_bounded(power: float, blocks: int) -> None:
    """A forger earns `blocks` blocks while honest miners find twice as many, drawn as a race of Poisson clocks."""
    chance, trials, won = random.Random(5), 20_000, 0
    for _ in range(trials):
        time, earned, limit = 0.0, 0, blocks / (1 / 2)
        while earned < blocks:
            time += chance.expovariate(power)
            if time > limit:
                break
            earned += 1
        won += earned == blocks
    assert 0 < won / trials <= 2 ** -compute_stretch_bits(power, 1 / 2, blocks)


def test_levels_and_counts_agree() -> None:
    for ratio in (100, 5_000, 10**6):
        count = compute_exact_count(50, 1 / 2, ratio)
        hit = compute_hit(1 / 2, ratio)
        assert compute_bits(count - 1, hit) < 50 <= compute_bits(count, hit)
    assert compute_bits(1, 1.0) == math.inf
    assert compute_block_share(288) < 0.01 < compute_block_share(8)
