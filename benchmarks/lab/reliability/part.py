"""What a part of the campaign is: a name, what is expected of it, and a run that counts and lists what went wrong.

A case's number is its seed, so a failure that names one is replayed with `--seed` and a count of 1. It knows no part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Report = Callable[[str], object]

TELLS = 20
"""How often a part says how far it is."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How much of a part is run: cases `seed` to `seed + count`, in the empty folder `root`."""

    count: int
    seed: int
    root: Path
    report: Report

    @property
    def seeds(self) -> range:
        """The cases' seeds."""
        return range(self.seed, self.seed + self.count)


@dataclass(slots=True)
class Result:
    """What came of a part: cases run, figures by name, and a line for each failure."""

    reached: int = 0
    figures: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    skipped: str = ""
    """Why nothing was run, where that is so."""

    def fail(self, seed: int, problem: str) -> None:
        """Take note of a failure and of the seed that brings it back."""
        self.failures.append(f"seed {seed}: {problem}")


@dataclass(frozen=True, slots=True)
class Part:
    """One way of breaking a node; `count` is what the target asks for, `quick` what shows that everything runs."""

    name: str
    target: str
    cases: str
    """What is counted."""
    count: int
    quick: int
    run: Callable[[Setup], Result]


def tell(setup: Setup, result: Result, name: str) -> None:
    """Report progress at every twentieth of the part."""
    step = max(1, setup.count // TELLS)
    if result.reached % step == 0 or result.reached == setup.count:
        setup.report(f"{name}: {result.reached:,} of {setup.count:,}, {len(result.failures)} failures")


def compute_quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of all values do not exceed; raises AssertionError without values."""
    assert values
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
