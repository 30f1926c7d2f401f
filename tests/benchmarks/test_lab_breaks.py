"""The probes measure what they say: known answers for their tools, and the remedy seen at work in the quick ones."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.lab.breaks import PROBES, render_page
from benchmarks.lab.breaks_norm import probe_normalise
from benchmarks.lab.breaks_operands import rotate
from benchmarks.lab.breaks_optimizer import probe_gradient_range
from benchmarks.lab.breaks_trained import probe_trained
from benchmarks.lab.probe import compute_snr_db
from benchmarks.lab.records import LabError
from benchmarks.lab.speed import Measurement, Plan, measure_width
from benchmarks.lab.speed import render_page as render_speed


def test_rotation_is_the_hadamard_matrix() -> None:
    matrix = np.ones((1, 1), np.int64)
    for _ in range(4):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    x = np.random.default_rng(0).integers(-(2**20), 2**20, (5, 16)).astype(np.int32)
    assert np.array_equal(rotate(x), (x @ matrix + 2) >> 2)
    assert np.array_equal(rotate(rotate(x << 4)), x << 4)


def test_decibels() -> None:
    exact = np.array([3.0, 4.0])
    assert compute_snr_db(exact, exact + np.array([0.0, 0.5])) == pytest.approx(20.0)
    assert compute_snr_db(exact, exact) == float("inf")


def test_tall_rows_need_no_clamp() -> None:
    finding = probe_normalise()
    forward = [float(row[3].split()[0]) for row in finding.rows]
    clamped = [float(row[2].split()[0]) for row in finding.rows]
    assert min(forward) > 100
    assert clamped[-1] < 10 < clamped[0]


def test_range_of_gradients_grows_with_the_batch() -> None:
    seen = [(float(row[3]), float(row[5])) for row in probe_gradient_range().rows]
    assert seen[-1][0] < 0.2
    assert all(shifted > 0.99 for _, shifted in seen)


def test_page_holds_every_finding() -> None:
    finding = probe_normalise()
    assert finding.title in render_page([finding])
    assert len(PROBES) == 8


@pytest.mark.slow  # compiles kernels where none are kept
def test_speed_of_a_tiny_model() -> None:
    plan = Plan((32,), threads=1, steps=2, layers=1, context=32, batch=2)
    found = measure_width(plan, 32)
    assert isinstance(found, Measurement)
    assert len(found.integer) == len(found.floating) == 2
    page = render_speed(plan, [found], "a machine")
    assert "| 32 | wall |" in page
    assert "float32 activations" in page


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", embedding=np.zeros((2, 2), np.int32))
    with pytest.raises(LabError, match="found no int32 array embedding"):
        probe_trained(tmp_path / "other.npz")
