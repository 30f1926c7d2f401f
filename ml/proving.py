"""Proving a segment: run its drawn steps again and open the drawn places; verify such openings against a trace.

The prover keeps no trace: a segment is a function of its seed, so any step can be had again. The verifier needs the
trace's roots and the data set, never the weights. Neither knows who asks, or what a wrong answer costs.
"""

from dataclasses import dataclass

from chain.errors import InvalidProof
from chain.primitives import Hash
from ml.checks import CheckContext, check_place
from ml.openings import OpeningReader, Place, TensorReader, decode_opening, draw_places
from ml.program import TensorId
from ml.segment import Runner, StepTensors, compute_initial_state, run_step
from ml.tensor_tree import TensorTree
from ml.trace import Trace


@dataclass(frozen=True, slots=True)
class _Step:
    """The tensors of one drawn step, and the trees already built over them."""

    tensors: StepTensors
    trees: dict[TensorId, TensorTree]


def prove_segment(runner: Runner, challenge: Hash, count: int) -> tuple[bytes, ...]:
    """Return the openings of the `count` places that `challenge` draws, in the order drawn.

    Raises InvalidProof when a tensor that is to be opened does not hold: such a segment cannot be proven.
    """
    context = CheckContext(runner.program, runner.dataset, runner.segment_seed)
    places = draw_places(runner.program, challenge, count)
    steps = _run_drawn_steps(runner, places)
    return tuple(open_place(context, place, steps[place.step].tensors, steps[place.step].trees) for place in places)


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


def _run_drawn_steps(runner: Runner, places: tuple[Place, ...]) -> dict[int, _Step]:
    drawn = {place.step for place in places}
    steps: dict[int, _Step] = {}
    state = compute_initial_state(runner.program, runner.checkpoint)
    for step in range(max(drawn, default=-1) + 1):
        tensors = run_step(runner, step, state)
        state = tuple(tensors[output] for output in runner.program.state_outputs)
        if step in drawn:
            steps[step] = _Step(tensors, {})
    return steps
