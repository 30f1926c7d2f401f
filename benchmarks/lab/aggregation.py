"""Training one model in rounds, beside synchronous training: the same samples, the same integers, other orders.

A round is what the chain settles: contributors start from one checkpoint, each with its own segment seed and moments of
zero, and `ml.settlement` makes the next checkpoint of the quantised deltas that came in time. Synchronous training is
one segment over all steps with the batches of all contributors together. It writes no file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from chain.hashing import tagged_hash
from ml.arithmetic import ACTIVATION_BITS
from ml.backends import Backend
from ml.checkpoint import Checkpoint, compute_initial_checkpoint
from ml.dataset import Dataset
from ml.evaluation import HELDOUT_TOKENS, compute_evaluation
from ml.models import build_program
from ml.prf import derive_key, draw_below
from ml.program import Program
from ml.segment import Runner, as_i32, compute_initial_state
from ml.settlement import Delta, compute_next_checkpoint
from ml.spec import Spec
from ml.training import run_training_step

RAGGED_MIN = 2
"""Contributors that come to a ragged round at least."""


class Presence(StrEnum):
    """Whose deltas are there when a round closes."""

    ALL = "all"
    RAGGED = "ragged"
    """Two or more, drawn for each round."""
    LATE = "one late"
    """All but one, drawn for each round: its delta comes after the close and is dropped."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train; a spec's rates, bits and momentum count for it as they do on the chain."""

    name: str
    spec: Spec
    """Of one contributor's segment, or of the whole synchronous run."""
    contributors: int
    """0 trains synchronously."""
    presence: Presence = Presence.ALL


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run stands after some steps of each contributor; losses in bits a byte."""

    steps: int
    samples: int
    """Sequences that all contributors have trained on, late ones left out."""
    train_loss: float
    """Mean over the steps since the last point."""
    heldout_loss: float


@dataclass(frozen=True, slots=True)
class Job:
    """A run: what to train, on what, for how long."""

    arm: Arm
    dataset: Dataset
    seed: int
    steps: int
    """Of each contributor."""
    curve_steps: int
    """Steps from one point to the next."""


OnPoint = Callable[[Point], None]


def run_arm(job: Job, backend: Backend, on_point: OnPoint) -> Checkpoint:
    """Train, telling of each point, and return the last checkpoint."""
    arm = replace(job.arm, spec=replace(job.arm.spec, init_seed=job.seed))
    job = replace(job, arm=arm)
    return _run_rounds(job, backend, on_point) if arm.contributors else _run_synchronous(job, backend, on_point)


def list_present(arm: Arm, seed: int, round_number: int) -> tuple[int, ...]:
    """Return the contributors whose deltas are there when a round closes, in order."""
    everyone = tuple(range(arm.contributors))
    if arm.presence is Presence.ALL:
        return everyone
    key = derive_key("lab", b"presence", seed.to_bytes(8, "little"), round_number.to_bytes(4, "little"))
    if arm.presence is Presence.LATE:
        late = draw_below(key, 0, arm.contributors)
        return tuple(place for place in everyone if place != late)
    count = RAGGED_MIN + draw_below(key, 0, arm.contributors - RAGGED_MIN + 1)
    order = sorted(everyone, key=lambda place: draw_below(key, 1 + place, 1 << 32))
    return tuple(sorted(order[:count]))


def measure_heldout(spec: Spec, backend: Backend, checkpoint: Checkpoint, dataset: Dataset, tokens: int) -> float:
    """Return the loss on held-out text, bits a byte."""
    found = compute_evaluation(build_program(spec), backend, checkpoint, dataset, tokens)
    return found.loss_f16 / (1 << ACTIVATION_BITS) / found.count


def _run_synchronous(job: Job, backend: Backend, on_point: OnPoint) -> Checkpoint:
    program = build_program(job.arm.spec)
    start = compute_initial_checkpoint(program)
    watch = _Watch(job, backend, on_point)
    checkpoint = start
    for checkpoint, loss in _iterate_segment(job, program, backend, start, (0, 0)):
        watch.on_step(loss)
        if watch.count(1, job.arm.spec.batch):
            watch.tell(checkpoint)
    return checkpoint


def _run_rounds(job: Job, backend: Backend, on_point: OnPoint) -> Checkpoint:
    arm, steps = job.arm, job.arm.spec.segment_steps
    assert job.steps % steps == 0
    program, watch = build_program(arm.spec), _Watch(job, backend, on_point)
    checkpoint = compute_initial_checkpoint(program)
    for round_number in range(job.steps // steps):
        present = list_present(arm, job.seed, round_number)
        deltas = [_train_delta(job, program, backend, checkpoint, (round_number, place), watch) for place in present]
        checkpoint = compute_next_checkpoint(program, checkpoint, deltas)
        if watch.count(steps, len(present) * arm.spec.batch):
            watch.tell(checkpoint)
    return checkpoint


def _train_delta(
    job: Job, program: Program, backend: Backend, start: Checkpoint, place: tuple[int, int], watch: "_Watch"
) -> Delta:
    weights = start.weights
    for after, loss in _iterate_segment(job, program, backend, start, place):
        watch.on_step(loss)
        weights = after.weights
    pairs = zip(weights, start.weights, strict=True)
    return tuple(backend.quantise_delta(*pair, program.spec.delta_bits) for pair in pairs)


def _iterate_segment(
    job: Job, program: Program, backend: Backend, start: Checkpoint, place: tuple[int, int]
) -> Iterator[tuple[Checkpoint, float]]:
    """Yield the weights after each step of a segment and the mean loss of its batch, bits a byte."""
    parts = (job.seed, *place)
    seed = tagged_hash("lab", b"aggregation", *(part.to_bytes(8, "little") for part in parts))
    runner = Runner(program, backend, job.dataset, seed, start, task_round=place[0])
    state = compute_initial_state(program, start)
    for step in range(program.steps):
        result = run_training_step(runner, step, state)
        state = result.state
        weights = tuple(as_i32(part) for part in state[: len(program.parameters)])
        yield Checkpoint(weights, start.momentum), result.loss_f16 / 2**ACTIVATION_BITS / result.rows


class _Watch:
    """Counts steps and samples, and tells of a point when one is due."""

    def __init__(self, job: Job, backend: Backend, on_point: OnPoint) -> None:
        self._job, self._backend, self._on_point = job, backend, on_point
        self._steps = self._samples = 0
        self._losses: list[float] = []

    def on_step(self, loss: float) -> None:
        self._losses.append(loss)

    def count(self, steps: int, samples: int) -> bool:
        """Count steps of every contributor, with the sequences of each, and say whether a point is due."""
        every, before = self._job.curve_steps, self._steps
        self._steps += steps
        self._samples += steps * samples
        return self._steps // every > before // every or self._steps == self._job.steps

    def tell(self, checkpoint: Checkpoint) -> None:
        losses, self._losses = self._losses, []
        spec, data = self._job.arm.spec, self._job.dataset
        heldout = measure_heldout(spec, self._backend, checkpoint, data, HELDOUT_TOKENS)
        train = sum(losses) / len(losses) if losses else 0.0
        self._on_point(Point(self._steps, self._samples, round(train, 4), round(heldout, 4)))
