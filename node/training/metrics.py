"""The records of a run, one JSON object a line: what it is, every step's loss, every evaluation.

`metrics.jsonl` is the truth; views and TensorBoard are drawn from the same records. Losses stand exact, as sums in
F16, and as decimals for reading. After an interruption the file is cut back to the checkpoint, so that no step stands
in it twice.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import msgspec

from ml.arithmetic import ACTIVATION_BITS
from ml.evaluation import Evaluation
from ml.spec import compute_spec_hash
from node.models.errors import ModelError
from node.models.files import write_whole
from node.models.specs import SpecForm, make_form
from node.training.plan import Plan

METRICS_BYTES_MAX = 256 << 20
"""65,535 steps of 250 bytes, several times over."""
DIGITS = 6


class RunRecord(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="run", omit_defaults=True
):
    """The first line: which run this is. Hashes are hex; `start` is the root of a checkpoint that it went on from."""

    spec_hash: str
    data_root: str
    seed: str
    steps: int
    unit: str
    """What a row is: tokens or examples."""
    spec: SpecForm
    start: str = ""


class StepRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="step"):
    """One training step. `step` counts those done; losses are in bits a row of the batch."""

    step: int
    loss: float
    loss_f16: int
    """Sum over the rows."""
    rows: int
    rate: float
    rows_per_second: float
    elapsed_s: float


class EvaluationRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="evaluation"):
    """How the weights after `step` steps do on held-out data."""

    step: int
    loss: float
    loss_f16: int
    correct: int
    count: int
    elapsed_s: float


class CheckpointRecord(msgspec.Struct, frozen=True, tag_field="event", tag="checkpoint"):
    """A checkpoint was written; told to those who watch, not kept in the file."""

    step: int
    file: str
    digest: str


Kept: TypeAlias = RunRecord | StepRecord | EvaluationRecord
Record: TypeAlias = Kept | CheckpointRecord


def make_run_record(plan: Plan) -> RunRecord:
    """Return the line that names a run."""
    return RunRecord(
        spec_hash=compute_spec_hash(plan.spec).hex(),
        data_root=plan.dataset.root.hex(),
        seed=plan.seed.hex(),
        steps=plan.spec.segment_steps,
        unit=plan.unit,
        spec=make_form(plan.spec),
        start=plan.start_root.hex(),
    )


def make_evaluation_record(step: int, found: Evaluation, elapsed_s: float) -> EvaluationRecord:
    """Return the line of an evaluation."""
    loss = compute_mean_bits(found.loss_f16, found.count)
    return EvaluationRecord(step, loss, found.loss_f16, found.correct, found.count, round(elapsed_s, 3))


def compute_mean_bits(loss_f16: int, count: int) -> float:
    """Return the mean of a sum of losses F16, in bits, for reading."""
    return round(loss_f16 / count / (1 << ACTIVATION_BITS), DIGITS)


@dataclass(frozen=True, slots=True)
class MetricsFile:
    """The open file of a run; every line reaches the system at once, and the disk with the next checkpoint."""

    file: IO[bytes]
    elapsed_s: float
    """Seconds that the run had taken when it was last interrupted."""

    def append(self, record: Kept) -> None:
        """Add a line."""
        self.file.write(msgspec.json.encode(record) + b"\n")
        self.file.flush()

    def sync(self) -> None:
        """Bring all lines to disk; raises OSError."""
        os.fsync(self.file.fileno())


def open_metrics(path: Path, run: RunRecord, step: int) -> MetricsFile:
    """Open the file for what comes after `step`, and cut off what it says of it; raises ModelError or OSError."""
    kept: list[Kept] = [run]
    if step:
        kept = list(read_metrics(path, step))
        _validate_kept(path, kept, run, step)
    write_whole(path, b"".join(msgspec.json.encode(record) + b"\n" for record in kept))
    times = [record.elapsed_s for record in kept if not isinstance(record, RunRecord)]
    return MetricsFile(path.open("ab"), times[-1] if times else 0.0)


def read_run_record(path: Path) -> RunRecord | None:
    """Return which run a file is of, or None when it does not say; raises OSError."""
    with path.open("rb") as file:
        first = file.readline(METRICS_BYTES_MAX)
    try:
        return msgspec.json.decode(first, type=RunRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_metrics(path: Path, step: int) -> Iterator[Kept]:
    """Yield the records up to `step`, and none after a line that a crash has torn; raises ModelError or OSError."""
    if path.stat().st_size > METRICS_BYTES_MAX:
        raise ModelError("bad-file", f"{path}: found more than {METRICS_BYTES_MAX} bytes, expected the lines of a run")
    with path.open("rb") as file:
        for line in file:
            try:
                record: Kept = msgspec.json.decode(line, type=Kept)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return
            if not isinstance(record, RunRecord) and record.step > step:
                return
            yield record


def _validate_kept(path: Path, kept: list[Kept], run: RunRecord, step: int) -> None:
    steps = [record.step for record in kept if isinstance(record, StepRecord)]
    if kept[:1] != [run] or steps != list(range(1, step + 1)):
        raise ModelError(
            "bad-file",
            f"{path}: found {len(steps)} steps of this run, expected {step}, as many as the checkpoint has;"
            " put the file back or start anew in another directory",
        )
