"""What a part of the campaign is: a name, what is expected of it, and a run that counts and lists what went wrong.

A case's number is its seed, so a failure that names one is replayed with `--seed` and a count of 1. It knows no part.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

Outcome = TypeVar("Outcome")
Report = Callable[[str], object]

TELLS = 20
"""How often a part says how far it is."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How much of a part is run: cases from `seed` on, at most `count`, in the empty folder `root`."""

    count: int
    seed: int
    root: Path
    report: Report
    jobs: int = 1
    """Cases at a time, of parts that only compute."""
    until_s: float = float("inf")
    """When the monotonic clock shows this, no further case begins."""

    @property
    def is_over(self) -> bool:
        """Whether no further case may begin."""
        return time.monotonic() >= self.until_s

    @property
    def seeds(self) -> Iterator[int]:
        """The cases' seeds, while there is time; the first always."""
        for seed in range(self.seed, self.seed + self.count):
            if seed > self.seed and self.is_over:
                return
            yield seed


@dataclass(slots=True)
class Result:
    """What came of a part: cases run, figures by name, and a line for each failure."""

    reached: int = 0
    figures: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    skipped: str = ""
    """Why nothing was run, where that is so."""
    next_seed: int | None = None
    """Where to go on, unless that is as many seeds on as cases were reached."""

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


def run_cases(setup: Setup, work: Callable[[int], Outcome], seeds: Sequence[int]) -> Iterator[Outcome]:
    """Yield what `work` makes of each seed, in order, several at a time, while there is time."""
    if setup.jobs == 1:
        for seed in seeds:
            yield work(seed)
            if setup.is_over:
                return
        return
    pool = ProcessPoolExecutor(setup.jobs, get_context("spawn"))
    try:
        for outcome in pool.map(work, seeds):
            yield outcome
            if setup.is_over:
                return
    finally:
        pool.shutdown(cancel_futures=True)


def tell(setup: Setup, result: Result, name: str) -> None:
    """Report progress at every twentieth of the part."""
    step = max(1, setup.count // TELLS)
    if result.reached % step == 0 or result.reached == setup.count:
        setup.report(f"{name}: {result.reached:,} of {setup.count:,}, {len(result.failures)} failures")


def compute_quantile(values: Sequence[float], share: float) -> float:
    """Return the least value that `share` of all values, above 0, do not exceed; raises AssertionError without any."""
    assert values
    return sorted(values)[ceil(share * len(values)) - 1]
