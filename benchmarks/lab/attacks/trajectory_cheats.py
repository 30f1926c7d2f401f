"""The ways to spoil a trajectory: what a cheat puts in place of which op's outputs.

Ports of published attacks on proof-of-learning to assigned batches and exact steps: Zhang et al. 2022 ("Adversarial
Examples for Proof-of-Learning"), Fang et al. 2023 ("Proof-of-Learning is Currently More Broken Than You Think"), and
those that suit our program. It knows neither challenges nor verdicts.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from benchmarks.lab.attacks.trajectory_bench import (
    Cheat,
    Outputs,
    Scene,
    Segment,
    get_bench,
    make_seed,
    make_segment,
    publish,
)
from chain.primitives import Hash
from ml.arithmetic import I32
from ml.checkpoint import Checkpoint
from ml.program import OpKind
from ml.segment import StepTensors, as_i32, compute_initial_state, run_step
from ml.tensor_tree import IntArray

HONEST_STEPS = 4
"""Steps that the blindfold takes truly: they hold the largest updates."""
TILE, TILE_STEP, TILE_TENSOR = 32, 17, "layer1.z"
"""Rows and columns of the spoilt tile, and where it lies."""
SPLICE_STEP = 20


def use_adversarial_data(scene: Scene) -> Outputs | None:
    """Train on crafted points: blank images, on which every gradient vanishes."""
    return (scene.zeros()[0], scene.run()[1]) if scene.op.kind is OpKind.BATCH else None


def use_tiny_rate(scene: Scene) -> Outputs | None:
    """Let the rate round to zero: the state comes out as it went in."""
    return scene.inputs[:3] if scene.op.kind is OpKind.ADAM else None


def blindfold(scene: Scene) -> Outputs | None:
    """Take the first steps, whose updates are the largest, truly; make the others up along a line."""
    if scene.step < HONEST_STEPS or scene.op.kind is OpKind.DELTA:
        return None
    return interpolate(scene) if scene.op.kind is OpKind.ADAM else scene.zeros()


def interpolate(scene: Scene) -> Outputs | None:
    """Move the weights along a line to a stolen model, whatever the gradients say."""
    if scene.op.kind is not OpKind.ADAM:
        return None
    start, end = _get_line(scene)
    part = (end.astype(np.int64) - start) * (scene.step + 1) // scene.runner.program.steps
    return (start + part).astype(np.int32), *scene.zeros()[1:]


def skip_steps(scene: Scene) -> Outputs | None:
    """Let every second step be the one before it, again."""
    if scene.step % 2 == 0 or scene.op.kind is OpKind.DELTA:
        return None
    return _repeat(scene)


def repeat_easy_batch(scene: Scene) -> Outputs | None:
    """Train on one easy batch: the examples that the checkpoint already has right."""
    return _find_easy_batch() if scene.op.kind is OpKind.BATCH else None


def back_fit(scene: Scene) -> Outputs | None:
    """Repeat one step that changes nothing, and reach a stolen model at the end."""
    is_last = scene.step == scene.runner.program.steps - 1
    if scene.op.kind is OpKind.ADAM:
        return interpolate(scene) if is_last else scene.inputs[:3]
    return None if scene.step == 0 or scene.op.kind is OpKind.DELTA else _repeat(scene)


def start_elsewhere(scene: Scene) -> Outputs | None:
    """Start from a better model than the checkpoint."""
    program = scene.runner.program
    if scene.step or not set(scene.op.inputs) & set(program.state_inputs[: len(program.parameters)]):
        return None
    better = dict(zip(program.state_inputs, _get_stolen_weights(), strict=False))
    return scene.run([better.get(tensor, array) for tensor, array in zip(scene.op.inputs, scene.inputs, strict=True)])


def freeze_layers(scene: Scene) -> Outputs | None:
    """Train the last layer alone: gradients of the others, and of their inputs, are said to be zero."""
    is_backward = _get_output_name(scene).endswith((".g", ".dx"))
    is_frozen = is_backward and _get_output_name(scene) != _get_last_gradient(scene)
    return scene.zeros() if is_frozen else None


def skip_backward_pass(scene: Scene) -> Outputs | None:
    """Say that the loss has no gradient: the whole backward pass follows for nothing."""
    if scene.op.kind is not OpKind.SOFTMAX_XENT_GRADIENT:
        return None
    return scene.zeros()[0], scene.run()[1]


def use_low_precision(scene: Scene) -> Outputs | None:
    """Keep four bits of every mantissa."""
    if scene.op.kind not in {OpKind.QUANTISE_ROWS, OpKind.QUANTISE_TRANSPOSED}:
        return None
    mantissas, exponents = scene.run()
    return mantissas >> 3 << 3, exponents


def use_stale_gradients(scene: Scene) -> Outputs | None:
    """Take the gradients of every fourth step for the three after it."""
    if scene.step % 4 == 0 or not _get_output_name(scene).endswith(".g"):
        return None
    return _repeat(scene)


def zero_one_layer(scene: Scene) -> Outputs | None:
    """Forge one cheap op: the first update leaves the first layer zero, so that no later product has work in it."""
    is_first = scene.step == 0 and scene.op.kind is OpKind.ADAM and scene.op.layer == 0
    return scene.zeros() if is_first else None


def zero_all_layers(scene: Scene) -> Outputs | None:
    """Forge three cheap ops: the first update leaves the whole state zero."""
    return scene.zeros() if scene.step == 0 and scene.op.kind is OpKind.ADAM else None


def turn_delta(scene: Scene) -> Outputs | None:
    """Train honestly, and commit the delta turned around."""
    if scene.op.kind is not OpKind.DELTA:
        return None
    mantissas, exponents = scene.run()
    return np.negative(mantissas), exponents


def spoil_tile(scene: Scene) -> Outputs | None:
    """Spoil one tile of one product of one step."""
    if scene.step != TILE_STEP or _get_output_name(scene) != TILE_TENSOR:
        return None
    (product,) = scene.run()
    spoilt = product.copy()
    spoilt[:TILE, :TILE] += 1
    return (spoilt,)


def shift_schedule(scene: Scene) -> Outputs | None:
    """Take the learning rate of the next step."""
    is_update = scene.op.kind is OpKind.ADAM and scene.step + 1 < scene.runner.program.steps
    return scene.run(step=scene.step + 1) if is_update else None


def shift_cursor(scene: Scene) -> Outputs | None:
    """Draw the batch of the next step."""
    return scene.run(step=scene.step + 1) if scene.op.kind is OpKind.BATCH else None


def carry_moments(scene: Scene) -> Outputs | None:
    """Start with the moments that an earlier segment ended with, instead of zeros."""
    if scene.step or scene.op.kind is not OpKind.ADAM:
        return None
    last, program = get_victim().steps[-1], scene.runner.program
    after = dict(zip(program.state_inputs, program.state_outputs, strict=True))
    weights, *_, gradient = scene.inputs
    return scene.run([weights, *(last[after[tensor]] for tensor in scene.op.inputs[1:3]), gradient])


def copy_segment(scene: Scene) -> Outputs | None:
    """Commit another miner's segment as one's own."""
    return tuple(get_victim().steps[scene.step][output] for output in scene.op.outputs)


def splice(scene: Scene) -> Outputs | None:
    """Go on with the honest second half of a segment that came from another state."""
    if scene.step < SPLICE_STEP or scene.op.kind is OpKind.DELTA:
        return None
    other = make_other_half(Hash(scene.runner.segment_seed))
    return tuple(other[scene.step][output] for output in scene.op.outputs)


SAVING_NOTHING: frozenset[Cheat] = frozenset(
    {start_elsewhere, use_low_precision, turn_delta, spoil_tile, shift_schedule, shift_cursor, carry_moments, splice}
)
"""Cheats that do all of the work; what they cost is not timed."""

TRAJECTORY: tuple[tuple[int, str, Cheat], ...] = (
    (1, "adversarial data points", use_adversarial_data),
    (2, "rate rounded to zero", use_tiny_rate),
    (3, "blindfold of the largest updates", blindfold),
    (4, "interpolated checkpoints", interpolate),
    (5, "skipped steps", skip_steps),
    (6, "one easy batch, repeated", repeat_easy_batch),
    (7, "stolen model, back-fitted", back_fit),
    (8, "another first state", start_elsewhere),
    (9, "frozen layers", freeze_layers),
    (9, "no backward pass", skip_backward_pass),
    (10, "four bits instead of seven", use_low_precision),
    (10, "stale gradients", use_stale_gradients),
)
"""Threat, name and cheat."""


def _repeat(scene: Scene) -> Outputs:
    return tuple(scene.past[-1][output] for output in scene.op.outputs)


def _get_output_name(scene: Scene) -> str:
    return scene.runner.program.tensors[scene.op.outputs[0]].name


def _get_last_gradient(scene: Scene) -> str:
    return f"layer{len(scene.runner.program.parameters) - 1}.g"


def _get_line(scene: Scene) -> tuple[I32, I32]:
    place = scene.op.layer
    return scene.runner.checkpoint.weights[place], _get_stolen_weights()[place]


@cache
def get_victim() -> Segment:
    """Return an honest segment of another miner."""
    return publish(make_segment(get_bench().make_runner(make_seed(0, "victim"))))


@cache
def _get_stolen_weights() -> tuple[I32, ...]:
    victim = get_victim()
    outputs = victim.runner.program.state_outputs[: len(victim.runner.program.parameters)]
    return tuple(as_i32(victim.steps[-1][output]) for output in outputs)


@cache
def make_other_half(seed: Hash) -> tuple[StepTensors, ...]:
    """Return the steps of an honest segment of the same seed from another checkpoint."""
    runner = get_bench().make_runner(seed)
    other = Checkpoint(_get_stolen_weights(), runner.checkpoint.momentum)
    return make_segment(replace(runner, checkpoint=other)).steps


@cache
def _find_easy_batch() -> tuple[IntArray, IntArray]:
    """Return the rows of a thousand draws that lose least under the checkpoint."""
    bench, rows = get_bench(), []
    for number in range(16):
        runner, program = bench.make_runner(make_seed(number, "easy")), bench.task.program
        tensors = run_step(runner, 0, compute_initial_state(program, bench.checkpoint))
        batch = [tensors[output] for output in program.ops[0].outputs]
        rows += [
            (int(loss), x, label)
            for loss, x, label in zip(tensors[program.loss][:, 0], batch[0], batch[1], strict=True)
        ]
    rows.sort(key=lambda row: row[0])
    best = rows[: bench.task.program.spec.batch]
    return np.array([x for _, x, _ in best], np.int32), np.array([label for _, _, label in best], np.int32)
