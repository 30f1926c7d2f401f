"""The runs of `mathesis lab aggregation`: arms by seeds, one after another, each kept when it has finished.

A run is a line of JSON with its curve; what stands in the file is not run again, so a campaign can be cut, and several
processes may share its seeds. It renders nothing.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.lab.aggregation import Arm, Job, Point, Presence, measure_heldout, run_arm
from benchmarks.lab.records import (
    LabError,
    append_line,
    describe_machine,
    describe_now,
    describe_versions,
    read_whole_lines,
)
from ml.backends import Backend
from ml.dataset import Dataset
from ml.spec import Decoder, Spec
from node.models.rates import parse_rate
from node.models.specs import find_spec

FINAL_TOKENS = 65_536
"""Held-out bytes that the end of a run is scored on; points on the way take the chain's own 8,192."""
CONTRIBUTORS = 4
SYNCHRONOUS, FOUR, ONE, ALIKE = "synchronous", "four", "one", "four, rounds alike"
SEGMENT_STEPS = 25
RATE = "0.012"
"""At the top, of synchronous training as of rounds: of 0.008, 0.012 and 0.016 the best for either."""
HELD_RATE = "0.004"
"""Of rounds that are all alike: with a higher one they end worse."""
WARMUP_PART, DECAY_PART = 0.1, 0.85
"""The rate of rounds rises over the first part of a run and falls over the second."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A campaign: which arms train, for how long, with which seeds."""

    dataset: str
    heldout: int
    arms: tuple[Arm, ...]
    """The most telling first: a campaign that is cut has run those."""
    steps: int
    curve_steps: int
    final_tokens: int = FINAL_TOKENS


@dataclass(frozen=True, slots=True)
class ArmRecord:
    """One finished run."""

    arm: str
    seed: int
    steps: int
    heldout_loss: float
    """Bits a byte on the final tokens."""
    points: tuple[Point, ...]
    rounds: int
    """0 where nothing is exchanged in rounds."""
    seconds: float
    cpu_seconds: float
    machine: str
    versions: str
    finished: str


def make_plan(steps: int, *, is_quick: bool) -> Plan:
    """Return the campaign; a quick one is over in seconds and shows only that everything runs."""
    named = find_spec("plays-tiny")
    assert isinstance(named.spec.model, Decoder)
    model = replace(named.spec.model, context=32, width=32, heads=2, hidden=128)
    base = replace(named.spec, model=model, batch=16, learning_rate=parse_rate(RATE))
    if is_quick:
        small = replace(model, width=16, layers=1, heads=2, hidden=32, context=8)
        base, steps = replace(base, model=small, batch=2), 8
    tokens = 1_024 if is_quick else FINAL_TOKENS
    return Plan(named.data, base.heldout, make_arms(base, steps), steps, max(1, steps // 20), tokens)


def make_arms(base: Spec, steps: int) -> tuple[Arm, ...]:
    """Return every arm on the model, batch and data of `base`."""
    whole = replace(
        base,
        batch=CONTRIBUTORS * base.batch,
        segment_steps=steps,
        warmup_steps=steps // 20,
        decay_steps=steps - steps // 20,
    )
    steps_of_segment = min(SEGMENT_STEPS, steps // 2)
    segment = replace(
        base,
        segment_steps=steps_of_segment,
        warmup_steps=steps_of_segment // 5,
        decay_steps=0,
        warmup_rounds=int(steps // steps_of_segment * WARMUP_PART),
        decay_rounds=int(steps // steps_of_segment * DECAY_PART),
        outer_momentum=13,
        outer_rate=16,
    )
    half = replace(segment, delta_bits=4)
    alike = replace(segment, warmup_rounds=0, decay_rounds=0, learning_rate=parse_rate(HELD_RATE))
    return (
        Arm(SYNCHRONOUS, whole, 0),
        Arm(FOUR, segment, CONTRIBUTORS),
        Arm(ONE, segment, 1),
        Arm("four, 4 bits", half, CONTRIBUTORS),
        Arm("four, one late", segment, CONTRIBUTORS, presence=Presence.LATE),
        Arm("four, ragged", segment, CONTRIBUTORS, presence=Presence.RAGGED),
        Arm(ALIKE, alike, CONTRIBUTORS),
    )


def run_campaign(
    plan: Plan, seeds: Sequence[int], results: Path, dataset: Dataset, backend: Backend, say: Callable[[str], None]
) -> None:
    """Run whatever is missing, telling `say` of every point; arms in order, seeds in turn."""
    for arm in plan.arms:
        for seed in seeds:
            if find_record(read_arm_records(results), arm.name, seed, plan.steps) is None:
                job = Job(arm, dataset, seed, plan.steps, plan.curve_steps)
                record = _run(plan, job, backend, say)
                append_line(results, json.dumps(asdict(record)).encode())
                say(f"{arm.name}, seed {seed}: held-out {record.heldout_loss:.4f}, {record.seconds:.0f} s")


def find_record(records: Sequence[ArmRecord], arm: str, seed: int, steps: int) -> ArmRecord | None:
    """Return the record of a run, or None while it has not finished."""
    wanted = arm, seed, steps
    return next((record for record in records if (record.arm, record.seed, record.steps) == wanted), None)


def read_arm_records(path: Path) -> list[ArmRecord]:
    """Return the records of a results file, none when there is no file; raises LabError on a damaged line."""
    records = []
    for number, line in enumerate(read_whole_lines(path), start=1):
        try:
            fields = json.loads(line)
            points = tuple(Point(**point) for point in fields.pop("points"))
            records.append(ArmRecord(**fields, points=points))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LabError(f"{path}, line {number}: found no run ({error}), expected one; remove the line") from None
    return records


def _run(plan: Plan, job: Job, backend: Backend, say: Callable[[str], None]) -> ArmRecord:
    start_s, start_cpu_s, points = time.perf_counter(), time.process_time(), list[Point]()

    def on_point(point: Point) -> None:
        points.append(point)
        say(f"{job.arm.name}, seed {job.seed}: step {point.steps} of {job.steps}, held-out {point.heldout_loss:.4f}")

    checkpoint = run_arm(job, backend, on_point)
    arm = job.arm
    heldout = measure_heldout(arm.spec, backend, checkpoint, job.dataset, plan.final_tokens)
    return ArmRecord(
        arm=arm.name,
        seed=job.seed,
        steps=job.steps,
        heldout_loss=round(heldout, 5),
        points=tuple(points),
        rounds=job.steps // arm.spec.segment_steps if arm.contributors else 0,
        seconds=round(time.perf_counter() - start_s, 1),
        cpu_seconds=round(time.process_time() - start_cpu_s, 1),
        machine=describe_machine(),
        versions=describe_versions(),
        finished=describe_now(),
    )
