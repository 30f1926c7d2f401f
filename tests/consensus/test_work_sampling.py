"""The draws are those of the density 1/d, in the place where they belong, and as many as the level asks for."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.hashing import tagged_hash
from chain.primitives import Hash
from consensus.sampling import compute_octaves, compute_public_seed, compute_sample_count, draw_places
from tests.support.headers import grow, make_chain, make_context

SEED = Hash(b"\x51" * 32)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 2**240), st.integers(1, 2**250))
@settings(max_examples=80, deadline=None)
def test_places_lie_before_the_stretch(seed: bytes, stretch: int, before: int) -> None:
    places = draw_places(Hash(seed), stretch + before, stretch, 5)
    assert len(places) == 5
    assert list(places) == sorted(places)
    assert places[0] >= 0
    assert places[-1] < before


def test_the_draws_are_pinned() -> None:
    assert draw_places(SEED, 10**6, 10**3, 4) == (965922, 969887, 975838, 991270)


@pytest.mark.parametrize(
    ("total", "stretch"), [(1_000_000, 1_000), (100_000, 77_777), (3_000, 1_000), (2**200, 2**190)]
)
def test_equal_ratios_of_distance_are_drawn_equally_often(total: int, stretch: int) -> None:
    """Cut [stretch, total] into ten parts of equal ratio: each holds a tenth of the draws, to five standard errors."""
    count, parts = 20_000, 10
    places = draw_places(SEED, total, stretch, count)
    octaves = math.log2(total / stretch)
    found = [0] * parts
    for place in places:
        found[min(parts - 1, int(math.log2((total - place) / stretch) / octaves * parts))] += 1
    error = math.sqrt(count / parts * (1 - 1 / parts))
    # Whole units of work are coarse where few lie in a part.
    assert all(abs(value - count / parts) < 5 * error + count / stretch for value in found), found


@given(st.integers(1, 2**200), st.integers(0, 2**220))
def test_octaves_are_rounded_up_by_less_than_a_sixteenth(stretch: int, more: int) -> None:
    total = stretch + more
    octaves = compute_octaves(total, stretch)
    assert stretch**16 << octaves >= total**16
    assert octaves == 0 or stretch**16 << octaves - 1 < total**16


def test_the_count_keeps_the_promised_level() -> None:
    """Exact probabilities beside the integer formula: never too few, at most 8 % too many."""
    for bits in (20, 40, 50, 80):
        for ratio in (5, 50, 500, 5_000, 10**6):
            hit = math.log(1 / 2) / math.log(1 / ratio)
            exact = bits / -math.log2(1 - hit)
            count = compute_sample_count(bits, ratio, 1)
            assert exact <= count <= exact * (1 + hit) + 2 + exact / 16


def test_more_level_and_more_work_need_more_places() -> None:
    counts = [compute_sample_count(bits, work, 100) for work in (200, 10**4, 10**8) for bits in (10, 50, 100)]
    assert all(a < b for row in (counts[:3], counts[3:6], counts[6:]) for a, b in pairwise(row))
    assert counts[1] < counts[4] < counts[7]


def test_a_public_seed_ignores_what_a_winner_may_re_sign() -> None:
    context = make_context()
    chain = make_chain(context)
    header = grow(context, chain, chain.genesis, 3).header
    resigned = replace(header, foliage=replace(header.foliage, state_root=tagged_hash("test", b"other")))
    other = grow(context, chain, chain.genesis, 3, salt=1).header
    assert compute_public_seed(resigned) == compute_public_seed(header)
    assert compute_public_seed(other) != compute_public_seed(header)
