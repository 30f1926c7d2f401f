"""`mathesis train`: a model trained on this machine, from a spec and a data set to checkpoints and metrics.

Ctrl-C ends a run with a checkpoint after the step under way; a second one ends it at once. What is trained how stands
in `node.training`.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.failures import end_in_exit_codes
from node.cli.output import Fields, is_live_terminal, json_option, print_record
from node.exit_codes import ExitCode

if TYPE_CHECKING:
    from ml.dataset import Dataset
    from node.models.specs import NamedSpec
    from node.models.state_file import ModelState
    from node.training.loop import OnRecord, Schedule
    from node.training.plan import Plan
    from node.training.run_directory import Run

PARTS = 10
"""A run is checkpointed and scored so many times unless told otherwise."""


@click.command()
@click.argument("spec")
@click.option("--data", help="Data set: a name, a manifest (.json) or a text file. Named specs have one of their own.")
@click.option("--steps", type=click.IntRange(1, 65_535), help="Steps of the whole run; the spec's by default.")
@click.option("--out", "out", type=click.Path(path_type=Path, file_okay=False), help="Directory; runs/SPEC by default.")
@click.option("--resume", "is_resuming", is_flag=True, help="Go on from the last checkpoint in the directory, if any.")
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A checkpoint whose weights the run goes on from.",
)
@click.option("--backend", type=click.Choice(["cpu", "reference", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1, 1024), help="Of the cpu backend; all cores by default.")
@click.option("--checkpoint-every", type=click.IntRange(0), help="Steps; 0 at the end alone. A tenth by default.")
@click.option("--evaluate-every", type=click.IntRange(0), help="Steps; 0 at the end alone. A tenth by default.")
@click.option("--keep", type=click.IntRange(0), default=3, show_default=True, help="Checkpoints that stay; 0 for all.")
@click.option("--seed", help="Of batches and rounding, up to 64 hex digits; follows from spec and data by default.")
@click.option("--learning-rate", help="Instead of the spec's, a decimal such as 0.004.")
@click.option("--weight-decay", help="Instead of the spec's, a decimal such as 0.1.")
@click.option("--tensorboard", "is_tensorboard", is_flag=True, help="Write events for TensorBoard too.")
@json_option
def train(
    spec: str,
    data: str | None,
    steps: int | None,
    out: Path | None,
    start: Path | None,
    backend: str,
    threads: int | None,
    seed: str | None,
    learning_rate: str | None,
    weight_decay: str | None,
    *,
    is_resuming: bool,
    is_tensorboard: bool,
    is_json: bool,
    **every: int | None,
) -> int:
    """Train SPEC (a name or a JSON file) on this machine.

    The directory gets metrics.jsonl and checkpoints, step-000500.safetensors. Ctrl-C writes a checkpoint and ends with
    130, SIGTERM with 143; --resume then goes on to the same bits as if nothing had happened.
    """
    from node.backends import make_backend
    from node.models.rates import parse_rate
    from node.models.specs import find_spec
    from node.models.state_file import read_state
    from node.training.plan import fit_spec, make_plan, parse_seed
    from node.training.show import require_tensorboard

    with end_in_exit_codes():
        named = find_spec(spec)
        rates = [None if text is None else parse_rate(text) for text in (learning_rate, weight_decay)]
        fitted = fit_spec(named.spec, steps or named.spec.segment_steps, *rates)
        chosen_seed = None if seed is None else parse_seed(seed)
        dataset = _load_data(named, data, is_json)
        weights = None if start is None else read_state(start).checkpoint
        plan = make_plan(fitted, dataset, make_backend(backend, threads), chosen_seed, weights)
        if is_tensorboard:
            require_tensorboard()
        schedule = _make_schedule(plan.spec.segment_steps, every)
        return _run(plan, schedule, out or Path("runs") / named.name, (is_resuming, is_tensorboard, is_json))


def _load_data(named: "NamedSpec", data: str | None, is_json: bool) -> "Dataset":
    from node.datasets.progress import show_progress
    from node.models.data import load_data

    if not (data or named.data):
        raise click.UsageError(f"found no --data, expected a data set for {named.name}; `mathesis dataset list`")
    with show_progress(is_silent=is_json) as on_progress:
        return load_data(named.spec, data or named.data, on_progress)


def _make_schedule(steps: int, every: dict[str, int | None]) -> "Schedule":
    from node.training.loop import Schedule

    tenth = max(1, steps // PARTS)
    checkpoint, evaluate = (every[name] for name in ("checkpoint_every", "evaluate_every"))
    return Schedule(
        tenth if checkpoint is None else checkpoint, tenth if evaluate is None else evaluate, every["keep"] or 0
    )


def _run(plan: "Plan", schedule: "Schedule", out: Path, flags: tuple[bool, bool, bool]) -> int:
    from node.training.loop import Watch, train
    from node.training.run_directory import open_run

    is_resuming, is_tensorboard, is_json = flags
    with ExitStack() as stack:
        runner = plan.make_runner()  # What does not fit in memory ends here, before a directory is begun.
        run = stack.enter_context(open_run(out.expanduser(), plan, is_resuming))
        if is_resuming and not is_json:
            place = f"step {run.state.step}" if run.state else "the start: there is no checkpoint yet"
            click.echo(f"going on from {place}", err=True)
        get_signal = stack.enter_context(_catch_signals())
        on_record = _enter_views(stack, plan, run, is_tensorboard, is_json)
        state = train(plan, runner, run, schedule, Watch(on_record, lambda: get_signal() is not None))
    stopped_by = get_signal()
    if stopped_by is not None and state.step < plan.spec.segment_steps:
        place = f"stopped after step {state.step} of {plan.spec.segment_steps}"
        click.echo(f"mathesis: {place}; add --resume to go on", err=True)
        return 128 + stopped_by
    if not is_json:
        print_record(_make_summary(plan, state, run), is_json)
    return ExitCode.OK


def _enter_views(stack: ExitStack, plan: "Plan", run: "Run", is_tensorboard: bool, is_json: bool) -> "OnRecord":
    from node.training import show
    from node.training.metrics import Record, make_run_record

    record = make_run_record(plan)
    views: list[OnRecord] = []
    if is_tensorboard:
        views.append(stack.enter_context(show.open_tensorboard(run.path / "tensorboard")))
    if is_json:
        views.append(show.print_json)
    elif is_live_terminal():
        views.append(stack.enter_context(show.show_live(record, run.state.step if run.state else 0)))
    else:
        views.append(show.make_plain(record))

    def on_record(record: Record) -> None:
        try:
            for view in views:
                view(record)
        except BrokenPipeError:
            # Whoever read along has left. The run goes on: its metrics are on disk.
            views.clear()
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it replaces a stream of the process
            click.echo("mathesis: nobody reads the output any more; the run goes on", err=True)

    on_record(record)
    return on_record


@contextmanager
def _catch_signals() -> Iterator[Callable[[], int | None]]:
    """Yield what tells which of SIGINT and SIGTERM has come; a second one has its usual effect."""
    caught: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(number, before[signal.Signals(number)])
        # A handler may interrupt a print, so it writes past Python's buffers.
        os.write(sys.stderr.fileno(), b"\nmathesis: stopping after this step; once more to stop at once\n")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: caught[0] if caught else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make_summary(plan: "Plan", state: "ModelState", run: "Run") -> Fields:
    from node.models.state_file import read_header
    from node.training.metrics import EvaluationRecord, read_metrics
    from node.training.run_directory import METRICS_NAME, get_checkpoint_path
    from node.training.show import describe_score

    path, metrics = get_checkpoint_path(run.path, state.step), run.path / METRICS_NAME
    scores = [record for record in read_metrics(metrics, state.step) if isinstance(record, EvaluationRecord)]
    return {
        "steps": state.step,
        "held_out": describe_score(scores[-1], plan.unit) if scores else None,
        "checkpoint": str(path),
        "digest": read_header(path).metadata.digest,
        "metrics": str(metrics),
    }
