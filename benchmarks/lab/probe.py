"""What probes share: the record of a finding, the signal-to-noise ratio, and a text model to look into.

It knows no particular failure.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Finding:
    """One failure, provoked."""

    title: str
    setting: str
    """What was run, at which size."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    answer: str
    """What format 2 does about it."""


def compute_snr_db(exact: F64, found: F64) -> float:
    """Return 10 log10 of the power of `exact` over that of the error of `found`; infinite without an error."""
    noise = float(np.square(found - exact).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(np.square(exact).sum() / noise))


def format_db(value: float) -> str:
    """Return decibels with one decimal."""
    return f"{value:.1f} dB"


def format_percent(part: float) -> str:
    """Return a fraction in percent."""
    return f"{100 * part:.2f} %"
