"""Normalisation of tall rows: what a clamp of the input would do, and how far integers are from float64.

Rows of the residual stream grow with depth. Format 2 shifts a tall row down before it squares it and has no clamp; the
probe runs rows from a hundredth to the largest that int32 holds through it, forward and backward.
"""

import numpy as np

from benchmarks.lab.probe import F64, Finding, compute_snr_db, format_db
from ml.backends.reference import NORM_EPSILON, ReferenceBackend

ROWS, WIDTH = 64, 4_096
CLAMP = 1 << 25
"""512 in F16: where a plainer rule would have clamped."""
DEVIATIONS = (0.01, 1.0, 100.0, 400.0, 1_600.0, 8_000.0)


def probe_normalise() -> Finding:
    """Measure normalise and its gradient against float64 for rows of growing deviation."""
    rng = np.random.default_rng(5)
    backend = ReferenceBackend()
    rows = []
    for deviation in DEVIATIONS:
        x = np.clip(rng.normal(size=(ROWS, WIDTH)) * deviation * 2**16, 1 - 2**31, 2**31 - 1).astype(np.int32)
        # Gradients as tall as their inputs' norm gives back gradients of one size.
        g = (rng.normal(size=(ROWS, WIDTH)) * min(deviation, 16.0) * 2**20).astype(np.int32)
        exact, exact_gradient = _normalise(x / 2.0**16, g / 2.0**24)
        clamped, _ = _normalise(np.clip(x, -CLAMP, CLAMP) / 2.0**16, g / 2.0**24)
        found = backend.normalise(x) / 2.0**16
        gradient = backend.normalise_backward(g, x) / 2.0**24
        rows.append(
            (
                f"{deviation:g}",
                f"{np.abs(x).max() / 2**16:.0f}",
                format_db(compute_snr_db(exact, clamped)),
                format_db(compute_snr_db(exact, found)),
                format_db(compute_snr_db(exact_gradient, gradient)),
            )
        )
    return Finding(
        title="Normalisation of tall rows",
        setting=f"{ROWS} normal rows of {WIDTH:,} columns, F16, against float64.",
        header=("deviation", "tallest value", "clamped at 512, forward", "format 2, forward", "format 2, backward"),
        rows=tuple(rows),
        answer="Format 2 has no clamp: a row is shifted below 2^24 before it is squared, up to the tallest int32. "
        "What limits the "
        "backward pass of tall rows is the step of F24, not the norm.",
    )


def _normalise(x: F64, gradient: F64) -> tuple[F64, F64]:
    """Return the normalised rows and the gradient of x in float64."""
    root = np.sqrt(np.square(x).mean(axis=1, keepdims=True) + NORM_EPSILON / 2**32)
    y = x / root
    return y, (gradient - y * (gradient * y).mean(axis=1, keepdims=True)) / root
