"""The order of runs of a quality comparison, and running them one after another until none is left.

Each side chooses its learning rate on one seed, on the loss of held-out data; then every seed is run with it, both
sides in turn, so that a campaign that is cut early ends with pairs. What to run next follows from the results alone.
"""

import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.lab.cases import QualityCase, load_case_dataset, make_segment_seed, make_spec
from benchmarks.lab.records import (
    RunKey,
    RunRecord,
    append_record,
    describe_machine,
    describe_now,
    describe_versions,
    find_record,
    read_records,
)
from benchmarks.lab.training import Job, OnStep, Outcome, train_float, train_integer
from ml.arithmetic import IntArray
from ml.models import build_program
from node.backends import make_backend

SIDES = ("float32", "integer")
CHOOSING_SEED = 1
CURVE_STEPS = 10
FINAL_STEPS = 100


@dataclass(frozen=True, slots=True)
class Campaign:
    """Where and how a case is run."""

    results: Path
    """File of JSON lines."""
    sides: tuple[str, ...] = SIDES
    seeds: int | None = None
    """How many seeds to run with the chosen rate; the case's own number when None."""
    backend: str = "cpu"
    threads: int = 1
    states: Path | None = None
    """Folder to keep the final weights of integer runs in."""


def find_next_run(case: QualityCase, campaign: Campaign, records: Sequence[RunRecord]) -> RunKey | None:
    """Return the run to do next, or None when the case is complete."""
    choosing = [
        RunKey(case.name, side, case.choosing_steps, rate, CHOOSING_SEED)
        for rate in case.rates_ppm
        for side in campaign.sides
    ]
    for key in choosing:
        if find_record(records, key) is None:
            return key
    for seed in range(1, (campaign.seeds or case.seeds) + 1):
        for side in campaign.sides:
            key = RunKey(case.name, side, case.steps, choose_rate(case, side, records), seed)
            if find_record(records, key) is None:
                return key
    return None


def choose_rate(case: QualityCase, side: str, records: Sequence[RunRecord]) -> int:
    """Return the rate of least held-out loss among the choosing runs of a side, all of which must be there."""
    losses = {}
    for rate in case.rates_ppm:
        record = find_record(records, RunKey(case.name, side, case.choosing_steps, rate, CHOOSING_SEED))
        assert record is not None
        losses[rate] = record.heldout_loss
    return min(losses, key=lambda rate: losses[rate])


def run_campaign(case: QualityCase, campaign: Campaign, say: Callable[[str], None]) -> None:
    """Run whatever is missing, telling `say` of each run's start and end; raises DatasetError or OSError."""
    dataset = None
    while (key := find_next_run(case, campaign, read_records(campaign.results))) is not None:
        dataset = dataset or load_case_dataset(case)
        spec = make_spec(case, key.steps, key.rate_ppm, key.seed)
        job = Job(spec, dataset, make_segment_seed(case, key.seed), case.heldout_tokens)
        say(f"{key.case} {key.side}: {key.steps} steps at {key.rate_ppm} ppm, seed {key.seed}")
        record = _run(case, campaign, key, job, _make_progress(say, key.steps))
        append_record(campaign.results, record)
        say(
            f"  held-out {record.heldout_loss:.4f} bits, accuracy {100 * record.heldout_accuracy:.2f} %, "
            f"last {FINAL_STEPS} steps {record.final_loss:.4f}, {record.seconds:.0f} s"
        )


def _run(case: QualityCase, campaign: Campaign, key: RunKey, job: Job, on_step: OnStep) -> RunRecord:
    start = time.perf_counter()
    if key.side == "float32":
        torch.set_num_threads(campaign.threads)
        outcome, _ = train_float(job, on_step)
    else:
        outcome, state = train_integer(job, make_backend(campaign.backend, campaign.threads), on_step)
        if campaign.states is not None and key.steps == case.steps:
            _keep_weights(campaign.states / f"{key.case}-{key.steps}-{key.seed}.npz", job, state)
    return RunRecord(
        key=key,
        curve=_make_curve(outcome),
        final_loss=round(float(np.mean(outcome.losses[-FINAL_STEPS:])), 5),
        heldout_loss=round(outcome.heldout_loss, 5),
        heldout_accuracy=round(outcome.heldout_accuracy, 5),
        heldout_rows=outcome.heldout_rows,
        seconds=round(time.perf_counter() - start, 1),
        threads=campaign.threads,
        backend="torch" if key.side == "float32" else campaign.backend,
        machine=describe_machine(),
        versions=describe_versions(),
        finished=describe_now(),
    )


def _keep_weights(path: Path, job: Job, state: Sequence[IntArray]) -> None:
    """Write the weights F24 by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for parameter, part in zip(build_program(job.spec).parameters, state, strict=False):
            with archive.open(f"{parameter.name}.npy", "w") as file:
                np.lib.format.write_array(file, part, allow_pickle=False)


def _make_curve(outcome: Outcome) -> tuple[float, ...]:
    losses = outcome.losses
    parts = [losses[start : start + CURVE_STEPS] for start in range(0, len(losses), CURVE_STEPS)]
    return tuple(round(float(np.mean(part)), 4) for part in parts)


def _make_progress(say: Callable[[str], None], steps: int) -> OnStep:
    every = max(1, steps // 10)

    def on_step(step: int, loss: float) -> None:
        if (step + 1) % every == 0:
            say(f"  step {step + 1:>5} loss {loss:.4f}")

    return on_step
