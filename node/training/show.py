"""How a run is shown: a live line where a person watches, plain lines in a log, JSON for programs, TensorBoard.

All of them are told the records that `metrics.jsonl` keeps; none of them decides anything.
"""

import importlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import click
import msgspec

from node.models.errors import ModelError
from node.training.loop import OnRecord
from node.training.metrics import CheckpointRecord, EvaluationRecord, Record, RunRecord, StepRecord

SMOOTHED_STEPS = 20
"""The loss and the speed on the screen are means over so many steps."""
FIRST_STEP = "first step; kernels are compiled once"
PLAIN_LINES = 20
"""Lines of steps that a log gets of a whole run."""


class Recent:
    """Means over the last steps."""

    def __init__(self, steps: int) -> None:
        """Start without a step; `steps` is how many the run has."""
        self.steps = steps
        self._last: deque[StepRecord] = deque(maxlen=SMOOTHED_STEPS)
        self._first: StepRecord | None = None

    def add(self, record: StepRecord) -> None:
        """Take a step into the means."""
        self._first = self._first or record
        self._last.append(record)

    @property
    def loss(self) -> float:
        """Bits a row."""
        return sum(record.loss for record in self._last) / len(self._last)

    @property
    def rows_per_second(self) -> float:
        """Rows over the seconds of the steps alone; the first, which may have compiled kernels, counts only alone."""
        counted = [record for record in self._last if record is not self._first] or list(self._last)
        return sum(record.rows for record in counted) / sum(record.rows / record.rows_per_second for record in counted)

    @property
    def left(self) -> str:
        """Time until the end, as h:mm:ss."""
        last = self._last[-1]
        seconds = (self.steps - last.step) * last.rows / self.rows_per_second
        return str(timedelta(seconds=round(seconds)))


def describe(record: EvaluationRecord | CheckpointRecord, unit: str) -> str:
    """Say in a line what an evaluation found, or where a checkpoint lies."""
    if isinstance(record, CheckpointRecord):
        return f"step {record.step:>6}  checkpoint {record.file}"
    return f"step {record.step:>6}  held out   {describe_score(record, unit)}"


def describe_score(record: EvaluationRecord, unit: str) -> str:
    """Say what an evaluation found."""
    per = "byte" if unit == "tokens" else "example"
    return f"{record.loss:.4f} bits/{per}, {100 * record.correct / record.count:.2f} % right of {record.count}"


def print_json(record: Record) -> None:
    """Print a record as one line of JSON."""
    click.echo(msgspec.json.encode(record).decode())


def make_plain(run: RunRecord) -> OnRecord:
    """Return a callback that prints a line now and then."""
    recent, every = Recent(run.steps), max(1, run.steps // PLAIN_LINES)

    def on_record(record: Record) -> None:
        if isinstance(record, StepRecord):
            recent.add(record)
            if record.step % every == 0 or record.step == run.steps:
                speed = f"{recent.rows_per_second:.0f} {run.unit}/s"
                click.echo(f"step {record.step:>6}  loss {recent.loss:.4f} bits, {speed}, {recent.left} left")
        elif not isinstance(record, RunRecord):
            click.echo(describe(record, run.unit))

    return on_record


@contextmanager
def show_live(run: RunRecord, done: int) -> Iterator[OnRecord]:
    """Yield a callback that keeps one line up to date, with a line above it for all that is not a step."""
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - only a terminal needs it

    steps, text = "step {task.completed:.0f}/{task.total:.0f}", "{task.fields[text]}"
    columns = (TextColumn(steps), BarColumn(24), TextColumn(text))
    recent = Recent(run.steps)
    with Progress(*columns, transient=False) as progress:
        task = progress.add_task("train", total=run.steps, completed=done, text=FIRST_STEP)

        def on_record(record: Record) -> None:
            if isinstance(record, StepRecord):
                recent.add(record)
                speed = f"{recent.rows_per_second:,.0f} {run.unit}/s"
                text = f"loss {recent.loss:.4f} bits  {speed}  {recent.left} left"
                progress.update(task, completed=record.step, text=text)
            elif not isinstance(record, RunRecord):
                progress.console.print(describe(record, run.unit), highlight=False, soft_wrap=True)

        yield on_record


def require_tensorboard() -> None:
    """Raise ModelError when TensorBoard is not installed."""
    try:
        importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise ModelError(
            "unavailable", f"--tensorboard needs {error.name}; pip install tensorboard, or read metrics.jsonl"
        ) from None


@contextmanager
def open_tensorboard(directory: Path) -> Iterator[OnRecord]:
    """Yield a callback that writes what TensorBoard draws; raises ModelError when it is not installed."""
    require_tensorboard()
    from torch.utils.tensorboard.writer import SummaryWriter  # noqa: PLC0415 - optional

    writer = SummaryWriter(str(directory))
    add_scalar: Callable[[str, float, int], None] = writer.add_scalar

    def on_record(record: Record) -> None:
        if isinstance(record, StepRecord):
            add_scalar("train/loss_bits", record.loss, record.step)
            add_scalar("train/rate", record.rate, record.step)
            add_scalar("train/rows_per_second", record.rows_per_second, record.step)
        elif isinstance(record, EvaluationRecord):
            add_scalar("heldout/loss_bits", record.loss, record.step)
            add_scalar("heldout/accuracy", record.correct / record.count, record.step)

    try:
        yield on_record
    finally:
        writer.close()
