"""A case of a campaign: from a seed and a number to one altered object, and from there to how its judge ended.

A number alone decides target, sample, kind and every choice, whatever else a campaign runs. So a case can be repeated
by itself. What is not counted is decided here: an object that came out as it was, and one that is valid by rights.
"""

import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from random import Random
from time import process_time_ns

from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import REFUSALS, Attempt, SameBelief, Sample, Target
from benchmarks.lab.mutations.targets import SLOTS, TARGETS, get_target
from chain.errors import DecodeError

FORGED = 0.4
"""Share of the cases that are forgeries, where a sample has some."""
TWICE = 0.2
"""Share of the cases in which a mutator of bytes alters what a mutator or a forgery has made."""
TRACED_EVERY = 16
"""Of how many cases one has its memory traced, which takes time; its time is not counted."""

MEMORY_BYTES_FIXED = 1024 * 1024
"""What a judge may hold whatever it is shown; msgpack's reader takes a quarter of it."""
MEMORY_PER_BYTE = 8
"""Bytes that a judge may hold for each that it is shown."""


class Ending(Enum):
    """How a case ended."""

    REFUSED = "refused"
    ACCEPTED = "accepted"
    CRASHED = "crashed"
    HOARDED = "took too much memory"
    IDENTICAL = "came out as it was"
    BY_RIGHTS = "valid by rights"

    @property
    def is_counted(self) -> bool:
        """Say whether the case put an invalid object before a judge."""
        return self not in (Ending.IDENTICAL, Ending.BY_RIGHTS)

    @property
    def is_fault(self) -> bool:
        """Say whether a case must not end so."""
        return self.is_counted and self is not Ending.REFUSED


@dataclass(frozen=True, slots=True)
class Case:
    """An altered object of a target; without an attempt it is not to be judged."""

    number: int
    target: Target
    kind: str
    ending: Ending | None
    """Why it is not judged, else None."""
    attempt: Attempt | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a judge ended: with which rule, after what time, with what memory."""

    ending: Ending
    rule: str
    """The refusing rule, or the type of an error that is no refusal."""
    detail: str
    time_ns: int | None
    """None where memory was traced."""
    peak_bytes: int | None
    """Most memory held at once beyond what was held before; None where time was taken."""


@cache
def get_samples(name: str) -> tuple[Sample, ...]:
    """Return the samples of a target, made once in a process."""
    return next(target for target in TARGETS if target.name == name).make_samples()


def make_case(seed: int, number: int) -> Case:
    """Return case `number` of the campaign of `seed`."""
    target, rng = get_target(number), Random(f"{seed}:{number}")
    samples = get_samples(target.name)
    sample = rng.choice(samples)
    kind, attempt = _alter(rng, target, sample)
    if attempt is None:
        return Case(number, target, kind, Ending.BY_RIGHTS, None)
    if attempt.data and rng.random() < TWICE:
        # What is altered already need not be msgpack any more.
        mutate = BYTE_MUTATORS[rng.choice(list(BYTE_MUTATORS))]
        attempt = replace(attempt, data=mutate(rng, attempt.data, rng.choice(samples).honest.data))
    is_same = attempt.data == sample.honest.data and not attempt.is_staged
    return Case(number, target, kind, Ending.IDENTICAL if is_same else None, attempt)


def _alter(rng: Random, target: Target, sample: Sample) -> tuple[str, Attempt | None]:
    if sample.forgeries and rng.random() < FORGED:
        kind = rng.choice(list(sample.forgeries))
        return kind, sample.forgeries[kind](rng)
    kind = rng.choice(list(target.mutators))
    other = rng.choice(get_samples(target.name))
    return kind, replace(sample.honest, data=target.mutators[kind](rng, sample.honest.data, other.honest.data))


def judge_case(case: Case) -> Verdict:
    """Return how a case ends; its memory is traced if its number says so."""
    if case.ending is not None or case.attempt is None:
        return Verdict(case.ending or Ending.BY_RIGHTS, "", "", None, None)
    return judge_attempt(case.attempt, is_traced=case.number // SLOTS % TRACED_EVERY == 0)


def judge_attempt(attempt: Attempt, *, is_traced: bool) -> Verdict:
    """Return how a judge ends, its time taken or its memory traced. Warnings of arithmetic count as crashes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        if is_traced:
            tracemalloc.start()
        start_ns = process_time_ns()
        ending, rule, detail = _end(lambda: attempt.judge(attempt.data))
        time_ns = process_time_ns() - start_ns
        if not is_traced:
            return Verdict(ending, rule, detail, time_ns, None)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        limit_bytes = MEMORY_BYTES_FIXED + MEMORY_PER_BYTE * len(attempt.data)
        if ending is Ending.REFUSED and peak_bytes > limit_bytes:
            detail = f"found {peak_bytes} bytes held, expected at most {limit_bytes}; {rule}: {detail}"
            ending = Ending.HOARDED
        return Verdict(ending, rule, detail, None, peak_bytes)


def _get_rule(error: Exception) -> str:
    """Return the rule that an error names; encodings have none."""
    return getattr(error, "rule", "encoding" if isinstance(error, DecodeError) else type(error).__name__)


def _end(judge: Callable[[], None]) -> tuple[Ending, str, str]:
    try:
        judge()
    except SameBelief:
        return Ending.BY_RIGHTS, "", ""
    except REFUSALS as error:
        return Ending.REFUSED, _get_rule(error), str(error)
    except Exception as error:  # whatever a judge did not mean to raise is what is looked for here
        return Ending.CRASHED, type(error).__name__, str(error)
    return Ending.ACCEPTED, "", "the judge returned"
