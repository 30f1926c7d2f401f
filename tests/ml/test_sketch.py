"""A sketch is a function of the set of windows alone, agrees as sets agree, and is the same bytes on every machine."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.hashing import sha256
from chain.ledger.economy_records import SKETCH_BYTES
from chain.ledger.near_duplicates import count_matches
from ml.prf import MIX_1, MIX_2, U32_MASK, U64_MASK, compute_prf, derive_key
from ml.sketch import MINIMA, WINDOW_BYTES, compute_sketch, fill_sketch, lower_minima

contents = st.binary(min_size=1, max_size=300)


def mix(word: int) -> int:
    word = ((word ^ word >> 30) * MIX_1) & U64_MASK
    word = ((word ^ word >> 27) * MIX_2) & U64_MASK
    return word ^ word >> 31


def compute_naively(windows: set[bytes]) -> bytes:
    """Return the sketch of a set of windows, a window and a bin at a time."""
    least: dict[int, int] = {}
    for window in windows:
        mixed = mix(int.from_bytes(window, "little") ^ derive_key("sketch"))
        place = (mixed >> 32) * MINIMA >> 32
        least[place] = min(least.get(place, U64_MASK), mixed & U32_MASK)
    return b"".join(least[find_lender(place, least)].to_bytes(4, "little") for place in range(MINIMA))


def find_lender(place: int, least: dict[int, int]) -> int:
    """Return the bin itself when something fell into it, else the first of its lenders."""
    key = derive_key("sketch.lenders")
    lenders = sorted(least, key=lambda lender: compute_prf(key, place * MINIMA + lender))
    return place if place in least else lenders[0]


def cut_windows(data: bytes) -> set[bytes]:
    filled = data + bytes(WINDOW_BYTES - len(data)) if len(data) < WINDOW_BYTES else data
    return {filled[start : start + WINDOW_BYTES] for start in range(len(filled) - WINDOW_BYTES + 1)}


@given(contents)
def test_a_sketch_is_what_a_window_at_a_time_gives(data: bytes) -> None:
    sketch = compute_sketch(data)
    assert sketch == compute_naively(cut_windows(data))
    assert len(sketch) == SKETCH_BYTES == 4 * MINIMA


@given(st.binary(min_size=1, max_size=40), st.integers(9, 20), st.integers(9, 20))
def test_how_often_a_window_comes_does_not_matter(record: bytes, once: int, again: int) -> None:
    assert compute_sketch(record * once) == compute_sketch(record * again)


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_records_kept_apart_may_stand_in_any_order(records: list[bytes], chance: random.Random) -> None:
    """Zeros between records keep windows from holding parts of two."""
    apart = bytes(WINDOW_BYTES)
    other = chance.sample(records, len(records))
    one, two = (apart + apart.join(each) + apart for each in (records, other))
    assert compute_sketch(one) == compute_sketch(two)


@given(contents, contents)
def test_more_content_never_raises_a_minimum_of_enough(own: bytes, more: bytes) -> None:
    """What stands behind a content can only take the place of a minimum by a lesser one."""
    base = random.Random(3).randbytes(4_096)
    before, after = compute_sketch(base + own), compute_sketch(base + own + more)
    for start in range(0, SKETCH_BYTES, 4):
        assert int.from_bytes(after[start : start + 4], "little") <= int.from_bytes(before[start : start + 4], "little")


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"\x01", "489538873e901bcf"),
        (b"mathesis" * 3, "65417128082d158c"),
        (random.Random(1).randbytes(512 << 10), "928b835055c6dbfd"),
    ],
)
def test_sketches_have_the_bytes_that_every_node_must_find(data: bytes, digest: str) -> None:
    assert sha256(compute_sketch(data))[:8].hex() == digest


@given(st.lists(contents, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_the_minima_of_parts_are_those_of_all_their_windows_in_any_order(
    parts: list[bytes], chance: random.Random
) -> None:
    chance.shuffle(parts)
    minima = None
    for part in parts:
        minima = lower_minima(part, minima)
    assert minima is not None
    assert fill_sketch(minima) == compute_naively(set().union(*map(cut_windows, parts)))


@pytest.mark.parametrize("percent", [20, 50, 80])
def test_minima_agree_as_sets_do(percent: int) -> None:
    """Over 60 pairs the mean is within three standard errors of the similarity that they were drawn to have."""
    chance, windows, found = random.Random(percent), 2_000, 0
    shared = 2 * windows * percent // (100 + percent)
    for _ in range(60):
        both, *own = (chance.randbytes(count) for count in (shared, windows - shared, windows - shared))
        found += count_matches(*(compute_sketch(both + each) for each in own))
    error = 3 * (60 * MINIMA * percent / 100 * (1 - percent / 100)) ** 0.5
    assert abs(found - 60 * MINIMA * percent / 100) < error + 60 * MINIMA * 0.01
