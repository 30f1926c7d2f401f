"""Proving a segment: run its drawn steps again and open the drawn places; verify such openings against a trace.

The prover keeps no trace: a segment is a function of its seed, so any step can be had again from the state before it.
It keeps some of those states, so that not all earlier steps must be run for one. The verifier needs the trace's roots
and the data set, never the weights. Neither knows who asks, or what a wrong answer costs.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from chain.errors import InvalidProof
from chain.primitives import Hash
from ml.checks import CheckContext, check_place, make_check_context
from ml.openings import OpeningReader, Place, TensorReader, decode_opening, draw_places
from ml.program import Program, TensorId
from ml.segment import Runner, StepTensors, compute_initial_state, run_step
from ml.tensor_tree import IntArray, TensorTree
from ml.trace import Trace

SNAPSHOT_BYTES_MAX = 256 << 20
"""What a prover keeps of one segment's states."""

State = tuple[IntArray, ...]
"""In the order of `Program.state_inputs`."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The states before every `interval`th step of a segment, kept while it is run."""

    program: Program
    interval: int
    states: dict[int, State] = field(default_factory=dict)
    """By step. Step 0 is not among them: it starts from the checkpoint."""

    def on_step(self, step: int, tensors: StepTensors) -> None:
        """Keep the state after `step` if it is the turn of the step that comes next."""
        following = step + 1
        if following % self.interval == 0 and following < self.program.steps:
            self.states[following] = tuple(tensors[output] for output in self.program.state_outputs)


def compute_snapshot_interval(program: Program, size_bytes_max: int = SNAPSHOT_BYTES_MAX) -> int:
    """Return the smallest interval at which a segment's snapshots take at most `size_bytes_max`."""
    state_bytes = sum(program.tensors[tensor].size_bytes for tensor in program.state_inputs)
    kept = size_bytes_max // state_bytes
    return -(-program.steps // (kept + 1))


def prove_segment(
    runner: Runner, challenge: Hash, count: int, states: Mapping[int, State] | None = None
) -> tuple[bytes, ...]:
    """Return the openings of the `count` places that `challenge` draws, in the order drawn.

    `states` before some of the steps, by step, save running the steps before them. Raises InvalidProof when a tensor
    that is to be opened does not hold: such a segment cannot be proven.
    """
    context = make_check_context(runner)
    places = draw_places(runner.program, challenge, count)
    steps = rerun_steps(runner, [place.step for place in places], states)
    trees: dict[int, dict[TensorId, TensorTree]] = {step: {} for step in steps}
    return tuple(open_place(context, place, steps[place.step], trees[place.step]) for place in places)


def rerun_step(runner: Runner, step: int, states: Mapping[int, State] | None = None) -> StepTensors:
    """Return the tensors of one step of a segment; `states` before some of the steps save running those before."""
    return rerun_steps(runner, (step,), states)[step]


def rerun_steps(
    runner: Runner, wanted: Collection[int], states: Mapping[int, State] | None = None
) -> dict[int, StepTensors]:
    """Return the tensors of the steps `wanted`, each run from the latest state that is at hand."""
    kept, steps = states or {}, dict[int, StepTensors]()
    at, state = 0, compute_initial_state(runner.program, runner.checkpoint)
    for step in sorted(set(wanted)):
        latest = max((earlier for earlier in kept if earlier <= step), default=0)
        if latest > at:
            at, state = latest, kept[latest]
        while at <= step:
            steps[step] = run_step(runner, at, state)
            at, state = at + 1, tuple(steps[step][output] for output in runner.program.state_outputs)
    return steps


def open_place(
    context: CheckContext, place: Place, tensors: StepTensors, trees: dict[TensorId, TensorTree] | None = None
) -> bytes:
    """Return the opening of `place` from the tensors of its step; raises InvalidProof when the op does not hold."""
    reader = TensorReader(context.program, tensors, {} if trees is None else trees)
    check_place(context, place, reader)
    return reader.encode()


def verify_opening(context: CheckContext, trace: Trace, place: Place, data: bytes) -> None:
    """Check that `data` opens `place` under `trace` and that the op holds there; raises InvalidProof."""
    reader = OpeningReader(trace, place.step, decode_opening(data))
    check_place(context, place, reader)
    reader.validate_end()


def verify_openings(
    context: CheckContext, trace: Trace, challenge: Hash, count: int, openings: tuple[bytes, ...]
) -> None:
    """Check that `openings` are those of the `count` places that `challenge` draws; raises InvalidProof.

    `trace` must have the size that its program says (`ml.trace.validate_output_roots`).
    """
    if len(openings) != count:
        raise InvalidProof("opening-count", f"found {len(openings)} openings, expected {count}")
    for place, data in zip(draw_places(context.program, challenge, count), openings, strict=True):
        verify_opening(context, trace, place, data)
