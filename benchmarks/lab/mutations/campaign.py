"""Running a campaign: which numbers, on how many processes, and what honest objects cost beside what is refused.

Cases are told by seed and number alone, so parts may run anywhere and in any order. It knows neither targets nor rules.
"""

import multiprocessing
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import count, islice
from statistics import median

from benchmarks.lab.mutations.cases import Ending, get_samples, judge_attempt, judge_case, make_case
from benchmarks.lab.mutations.tally import Tally
from benchmarks.lab.mutations.targets import TARGETS, find_target
from benchmarks.lab.records import LabError

PART = 1_000
"""Cases that a worker runs before it reports."""
HONEST_REPEATS = 9
TELLS = 50
"""How often a campaign says how far it is."""

Report = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Plan:
    """A campaign: `count` numbers of the cases of these targets, under a seed."""

    seed: int
    count: int
    workers: int
    names: tuple[str, ...] = tuple(target.name for target in TARGETS)


@dataclass(frozen=True, slots=True)
class Honest:
    """What a target's valid objects cost their judges: the middle one of the samples, and the most memory of any."""

    samples: int
    size_bytes: int
    """Of the largest."""
    time_us: float
    peak_bytes: int


def run_campaign(plan: Plan, report: Report) -> Tally:
    """Return the tally of a campaign; `report` hears how far it is. Raises LabError when a valid object is refused."""
    total, done = Tally(), 0
    for part in _run_parts(plan):
        total.merge(part)
        before, done = done, min(plan.count, done + PART)
        if before * TELLS // plan.count != done * TELLS // plan.count:
            report(f"{done:,} of {plan.count:,} cases, {total.fault_count} faults")
    return total


def _run_parts(plan: Plan) -> Iterator[Tally]:
    run = partial(run_part, plan.seed, plan.names)
    if plan.workers == 1:
        yield from map(run, _iter_parts(plan))
        return
    # Kernels are compiled here, once for all. Fresh processes: a fork takes over threads of whatever ran before.
    _warm_up(plan.names)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(plan.workers, context) as pool:
        yield from pool.map(run, _iter_parts(plan))


def _iter_parts(plan: Plan) -> Iterator[tuple[int, ...]]:
    named = ((number, find_target(number)) for number in count())
    chosen = (number for number, target in named if target is not None and target.name in plan.names)
    numbers = islice(chosen, plan.count)
    while part := tuple(islice(numbers, PART)):
        yield part


def run_part(seed: int, names: tuple[str, ...], numbers: Sequence[int]) -> Tally:
    """Return the tally of some cases of these targets."""
    tally, base_bytes = Tally(), _warm_up(names)
    for number in numbers:
        case = make_case(seed, number)
        tally.add(case, judge_case(case))
    tally.grown_bytes = max(0, _get_resident_bytes() - base_bytes)
    return tally


@cache
def _warm_up(names: tuple[str, ...]) -> int:
    """Return the most memory that this process ever held once every honest object has been judged."""
    for name in names:
        measure_honest(name)
    return _get_resident_bytes()


def _get_resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@cache
def measure_honest(name: str) -> Honest:
    """Return what a target's valid objects cost; raises LabError when one is refused."""
    times, peaks, samples = list[float](), list[int](), get_samples(name)
    for sample in samples:
        # The last one is traced: by then nothing is compiled or filled for the first time.
        turns = range(HONEST_REPEATS + 1)
        verdicts = [judge_attempt(sample.honest, is_traced=turn == HONEST_REPEATS) for turn in turns]
        for verdict in verdicts:
            if verdict.ending is not Ending.ACCEPTED:
                raise LabError(f"{name}: an honest object was not accepted: {verdict.rule} {verdict.detail}")
        times.append(median(verdict.time_ns / 1000 for verdict in verdicts if verdict.time_ns is not None))
        peaks += [verdict.peak_bytes for verdict in verdicts if verdict.peak_bytes is not None]
    size_bytes = max(len(sample.honest.data) for sample in samples)
    return Honest(len(samples), size_bytes, median(times), max(peaks))


def repeat_case(seed: int, number: int) -> dict[str, object]:
    """Return one case and how it ends, as the fields of a JSON object."""
    case = make_case(seed, number)
    verdict = judge_case(case)
    attempt = case.attempt
    return {
        "case": f"{seed}:{number}",
        "target": case.target.name,
        "kind": case.kind,
        "ending": verdict.ending.value,
        "rule": verdict.rule,
        "detail": verdict.detail,
        "peak_bytes": verdict.peak_bytes,
        "shown_bytes": None if attempt is None else len(attempt.data),
        "shown": None if attempt is None else attempt.data.hex(),
    }
