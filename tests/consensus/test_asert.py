"""ASERT against every row of the public vectors, and in properties."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.primitives import U256_MAX
from consensus.asert import TARGET_MAX, compute_target, compute_threshold, compute_work

INTERVAL, HALF_LIFE = 600, 172_800
POW_LIMIT = 0xFFFF << 208


def decode_compact(bits: int) -> int:
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    return mantissa >> 8 * (3 - exponent) if exponent <= 3 else mantissa << 8 * (exponent - 3)


def encode_compact(value: int) -> int:
    size = (value.bit_length() + 7) // 8
    mantissa = value << 8 * (3 - size) if size <= 3 else value >> 8 * (size - 3)
    if mantissa & 0x800000:
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


def vector_paths() -> list[Path]:
    root = os.environ.get("MATHESIS_VECTORS")
    return sorted((Path(root) / "asert").glob("run*")) if root else []


def read_run(path: Path) -> tuple[dict[str, int], list[tuple[int, int, int]]]:
    heading: dict[str, int] = {}
    rows = []
    for line in path.read_text().splitlines():
        if line.startswith("##"):
            name, _, value = line[2:].partition(":")
            if value.strip().split(" ")[0].removeprefix("0x").isalnum() and name.strip() != "description":
                heading[name.strip()] = int(value.strip(), 0)
        elif not line.startswith("#") and line.strip():
            _, height, time, target = line.split()
            rows.append((int(height), int(time), int(target, 0)))
    return heading, rows


@pytest.mark.skipif(not vector_paths(), reason="MATHESIS_VECTORS names no folder with asert runs")
def test_public_vectors() -> None:
    checked = 0
    for path in vector_paths():
        heading, rows = read_run(path)
        assert len(rows) == heading["iterations"]
        anchor = decode_compact(heading["anchor nBits"])
        for height, time, expected in rows:
            elapsed = time - heading["anchor ancestor time"]
            blocks = height - heading["anchor height"] + 1
            found = compute_target(anchor, elapsed, blocks, INTERVAL, HALF_LIFE, POW_LIMIT)
            assert encode_compact(found) == expected, (path.name, height)
            checked += 1
    assert checked >= 1_480


def test_on_schedule_keeps_the_target() -> None:
    assert compute_target(12345 << 100, 7 * INTERVAL, 7, INTERVAL, HALF_LIFE) == 12345 << 100


@pytest.mark.parametrize(("late", "expected"), [(HALF_LIFE, 2 << 200), (-HALF_LIFE, 1 << 199), (0, 1 << 200)])
def test_half_life_doubles_or_halves(late: int, expected: int) -> None:
    assert compute_target(1 << 200, 10 * INTERVAL + late, 10, INTERVAL, HALF_LIFE) == expected


def test_division_truncates() -> None:
    # -1 second of 172,800: truncation gives exponent 0 where flooring would give -1 and another target.
    assert compute_target(1 << 200, -1, 0, INTERVAL, HALF_LIFE * 65_536) == 1 << 200


@given(st.integers(1, U256_MAX), st.integers(-(2**64), 2**64), st.integers(0, 2**64), st.integers(1, 2**32))
def test_stays_in_range(anchor: int, elapsed: int, blocks: int, half_life: int) -> None:
    assert 1 <= compute_target(anchor, elapsed, blocks, INTERVAL, half_life) <= TARGET_MAX


@given(st.integers(1, TARGET_MAX), st.integers(-(10**6), 10**6), st.integers(0, 10**5))
def test_later_is_never_harder(anchor: int, elapsed: int, delay: int) -> None:
    early = compute_target(anchor, elapsed, 10, INTERVAL, HALF_LIFE)
    assert early <= compute_target(anchor, elapsed + delay, 10, INTERVAL, HALF_LIFE)


def test_unit_of_time_cancels() -> None:
    seconds = compute_target(1 << 200, 5_000, 9, INTERVAL, HALF_LIFE)
    assert seconds == compute_target(1 << 200, 5_000_000, 9, INTERVAL * 1000, HALF_LIFE * 1000)


@given(st.integers(1, TARGET_MAX))
def test_work_is_the_expected_number_of_macs(target: int) -> None:
    work = compute_work(target)
    assert work * (target + 1) <= 2**256 < (work + 1) * (target + 1)


def test_threshold_saturates() -> None:
    assert compute_threshold(TARGET_MAX, 32**3) <= U256_MAX
    assert compute_threshold(U256_MAX, 2) == U256_MAX
    assert compute_threshold(5, 7) == 35
