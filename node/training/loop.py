"""The loop of a run: step, measure, write down; and stop where it can go on from.

It computes through a `RunStep` that may be this process alone or many, tells what happens to one callback, and knows
neither terminal nor signal: whether to stop is asked after every step.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ml.arithmetic import IntArray
from ml.checkpoint import Checkpoint
from ml.evaluation import compute_evaluation
from ml.segment import Runner, as_i32, compute_initial_state, compute_rates
from ml.spec import RATE_BITS
from ml.training import StepResult, run_training_step
from node.backends import fetch_arrays, get_host_backend, place_arrays, refuse_what_does_not_fit
from node.models.state_file import ModelState
from node.training.metrics import EvaluationRecord, Record, StepRecord, compute_mean_bits, make_evaluation_record
from node.training.plan import Plan
from node.training.run_directory import Run

RunStep = Callable[[Runner, int, Sequence[IntArray]], StepResult]
"""Runs one step; `ml.training.run_training_step` in this process."""
OnRecord = Callable[[Record], None]


@dataclass(frozen=True, slots=True)
class Schedule:
    """After how many steps what is done; 0 means at the end alone."""

    checkpoint_every: int
    evaluate_every: int
    keep: int
    """Checkpoints that stay; 0 for all."""

    def is_due(self, every: int, step: int, steps: int) -> bool:
        """Say whether something that happens `every` so often happens after `step` of `steps`."""
        return step == steps or (every > 0 and step % every == 0)


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told of every record, and who says whether to stop."""

    on_record: OnRecord
    is_stopping: Callable[[], bool]


@refuse_what_does_not_fit("this run")
def train(
    plan: Plan, runner: Runner, run: Run, schedule: Schedule, watch: Watch, run_step: RunStep = run_training_step
) -> ModelState:
    """Run the steps of `plan` that are left, or those until `watch` asks to stop; return the state, which is on disk.

    `runner` is the plan's. Raises OSError when a file cannot be written, and ModelError when a step does not fit in
    memory; the last checkpoint then stands.
    """
    steps = plan.spec.segment_steps
    tensors = place_arrays(runner.backend, _get_start(runner, run))
    done = run.state.step if run.state else 0
    clock = _Clock(run.metrics.elapsed_s)
    for step in range(done, steps):
        clock.start_step()
        result = run_step(runner, step, tensors)
        tensors, done = result.state, step + 1
        record = _make_record(plan, done, result, clock)
        run.metrics.append(record)
        watch.on_record(record)
        if schedule.is_due(schedule.evaluate_every, done, steps):
            evaluation = _evaluate(runner, tensors, done, clock)
            run.metrics.append(evaluation)
            watch.on_record(evaluation)
        is_stopping = watch.is_stopping()
        if is_stopping or schedule.is_due(schedule.checkpoint_every, done, steps):
            watch.on_record(run.write_checkpoint(_make_state(plan, runner, tensors, done), schedule.keep))
        if is_stopping:
            break
    return _make_state(plan, runner, tensors, done)


class _Clock:
    """Seconds of the whole run, interruptions left out, and of the step under way."""

    def __init__(self, before_s: float) -> None:
        self._before_s = before_s
        self._start_s = self._step_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return self._before_s + time.monotonic() - self._start_s

    def start_step(self) -> None:
        self._step_s = time.monotonic()

    @property
    def step_s(self) -> float:
        return max(time.monotonic() - self._step_s, 1e-9)


def _get_start(runner: Runner, run: Run) -> tuple[IntArray, ...]:
    if run.state is not None:
        return (*run.state.weights, *run.state.moments)
    return compute_initial_state(runner.program, runner.checkpoint)


def _make_record(plan: Plan, done: int, result: StepResult, clock: _Clock) -> StepRecord:
    return StepRecord(
        step=done,
        loss=compute_mean_bits(result.loss_f16, result.rows),
        loss_f16=result.loss_f16,
        rows=result.rows,
        rate=round(compute_rates(plan.spec, 0, done - 1)[0] / (1 << RATE_BITS), 10),
        rows_per_second=_round_speed(result.rows / clock.step_s),
        elapsed_s=round(clock.elapsed_s, 3),
    )


def _round_speed(speed: float) -> float:
    """Return a speed above zero to six digits: never zero, however slow a step of few rows is."""
    return float(f"{speed:.6g}")


def _evaluate(runner: Runner, tensors: tuple[IntArray, ...], done: int, clock: _Clock) -> EvaluationRecord:
    count = len(runner.program.parameters)
    weights = tuple(map(as_i32, fetch_arrays(runner.backend, tensors[:count])))
    backend = get_host_backend(runner.backend)
    found = compute_evaluation(runner.program, backend, Checkpoint(weights, ()), runner.dataset)
    return make_evaluation_record(done, found, clock.elapsed_s)


def _make_state(plan: Plan, runner: Runner, tensors: tuple[IntArray, ...], done: int) -> ModelState:
    state, count = fetch_arrays(runner.backend, tensors), len(tensors) // 3
    return ModelState(plan.spec, plan.dataset.root, plan.seed, done, state[:count], state[count:], plan.start_root)
