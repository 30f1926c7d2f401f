"""What a campaign counts: endings by target and kind, refusing rules with their times and memory, and every fault.

Tallies of parts add up to that of the whole, whoever counted which part. It knows no target.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median, quantiles

from benchmarks.lab.mutations.cases import Case, Ending, Verdict

FAULTS_MAX = 100
"""Faults that are kept; all are counted."""
TICK_NS = 100
"""In which times are kept."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A case that ended as none may."""

    number: int
    target: str
    kind: str
    ending: Ending
    detail: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Times in microseconds."""

    median_us: float
    high_us: float
    """99 of 100 take no longer."""
    max_us: float


@dataclass(slots=True)
class Tally:
    """Counts of cases; `add` and `merge` change it."""

    kinds: Counter[tuple[str, str, Ending]] = field(default_factory=Counter)
    """By target, kind and ending."""
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Refusals by target and rule."""
    ticks: dict[tuple[str, str], "array[int]"] = field(default_factory=dict)
    """Times of refusals by target and rule."""
    peaks_bytes: dict[tuple[str, str], int] = field(default_factory=dict)
    """Most memory while refusing, by target and rule."""
    shown_bytes: dict[str, int] = field(default_factory=dict)
    """The largest object shown, by target."""
    faults: list[Fault] = field(default_factory=list)
    grown_bytes: int = 0
    """By how much a worker's resident memory ever exceeded what it was after honest objects."""

    def add(self, case: Case, verdict: Verdict) -> None:
        """Count a case."""
        name = case.target.name
        self.kinds[name, case.kind, verdict.ending] += 1
        if case.attempt is not None:
            self.shown_bytes[name] = max(self.shown_bytes.get(name, 0), len(case.attempt.data))
        if verdict.ending.is_fault:
            self._keep(Fault(case.number, name, case.kind, verdict.ending, f"{verdict.rule} {verdict.detail}"))
        if verdict.ending is not Ending.REFUSED:
            return
        key = name, verdict.rule
        self.rules[key] += 1
        if verdict.time_ns is not None:
            self.ticks.setdefault(key, array("I")).append(verdict.time_ns // TICK_NS)
        if verdict.peak_bytes is not None:
            self.peaks_bytes[key] = max(self.peaks_bytes.get(key, 0), verdict.peak_bytes)

    def merge(self, other: "Tally") -> None:
        """Add what another part counted."""
        self.kinds += other.kinds
        self.rules += other.rules
        for key, ticks in other.ticks.items():
            self.ticks.setdefault(key, array("I")).extend(ticks)
        for key, peak_bytes in other.peaks_bytes.items():
            self.peaks_bytes[key] = max(self.peaks_bytes.get(key, 0), peak_bytes)
        for name, shown_bytes in other.shown_bytes.items():
            self.shown_bytes[name] = max(self.shown_bytes.get(name, 0), shown_bytes)
        for fault in other.faults:
            self._keep(fault)
        self.grown_bytes = max(self.grown_bytes, other.grown_bytes)

    def count(self, *endings: Ending, target: str | None = None, kind: str | None = None) -> int:
        """Return how many cases ended so, of one target or kind or of all."""
        return sum(
            number
            for (of_target, of_kind, ending), number in self.kinds.items()
            if ending in endings and target in (None, of_target) and kind in (None, of_kind)
        )

    @property
    def counted(self) -> int:
        """Cases that put an invalid object before a judge."""
        return self.count(*(ending for ending in Ending if ending.is_counted))

    @property
    def fault_count(self) -> int:
        """Cases that ended as none may."""
        return self.count(*(ending for ending in Ending if ending.is_fault))

    def get_spread(self, target: str, rule: str | None = None) -> Spread | None:
        """Return how long refusals of a target took, by one rule or all; None where none was timed."""
        found = [
            each for (name, by), ticks in self.ticks.items() if name == target and rule in (None, by) for each in ticks
        ]
        if len(found) < 2:
            return None
        to_us = TICK_NS / 1000
        return Spread(median(found) * to_us, quantiles(found, n=100)[-1] * to_us, max(found) * to_us)

    def get_peak_bytes(self, target: str, rule: str | None = None) -> int | None:
        """Return the most memory held while refusing, by one rule or all; None where none was traced."""
        return max(
            (peak for (name, by), peak in self.peaks_bytes.items() if name == target and rule in (None, by)),
            default=None,
        )

    def iter_rules(self, target: str) -> Iterator[tuple[str, int]]:
        """Yield the rules that refused a target's cases, the most frequent first."""
        for (name, rule), number in self.rules.most_common():
            if name == target:
                yield rule, number

    def _keep(self, fault: Fault) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(fault)
