"""Training without a trace: steps that keep a tensor only until its last use.

`ml.segment` runs a segment with every tensor in sight, for commitment; here is the same program, op by op, for whoever
trains on his own machine. Both give the same bytes. It knows no file, no clock and no process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ml.arithmetic import IntArray
from ml.models import build_program
from ml.program import OpKind, Program, TensorId
from ml.segment import Runner, run_op
from ml.spec import Spec, count_rows


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step leaves behind."""

    state: tuple[IntArray, ...]
    """In the order of `Program.state_outputs`."""
    loss_f16: int
    """Sum over the rows of the batch, in bits."""
    rows: int
    bytes_held_max: int
    """Most bytes of activations and gradients held at one time, state not counted."""


def run_training_step(runner: Runner, step: int, state: Sequence[IntArray]) -> StepResult:
    """Return state and loss after one step; each tensor is let go after the last op that reads it."""
    program = runner.program
    tensors = dict(zip(program.state_inputs, state, strict=True))
    held = held_max = 0
    for op, spent in zip(program.ops, get_last_uses(program), strict=True):
        outputs = run_op(runner, step, op, [tensors[tensor] for tensor in op.inputs])
        tensors.update(zip(op.outputs, outputs, strict=True))
        if op.kind is not OpKind.ADAM:
            held += sum(output.nbytes for output in outputs)
        held_max = max(held_max, held)
        for tensor in spent:
            held -= 0 if tensor in program.state_inputs else tensors[tensor].nbytes
            del tensors[tensor]
    loss_f16 = int(tensors[program.loss].astype(np.int64).sum())
    after = tuple(tensors[tensor] for tensor in program.state_outputs)
    return StepResult(after, loss_f16, count_rows(program.spec), held_max)


@cache
def _get_last_uses(spec: Spec) -> tuple[tuple[TensorId, ...], ...]:
    program = build_program(spec)
    last: dict[TensorId, int] = {}
    for op in program.ops:
        last.update(dict.fromkeys((*op.inputs, *op.outputs), op.index))
    kept = {program.loss, *program.state_outputs}
    spent: list[list[TensorId]] = [[] for _ in program.ops]
    for tensor in sorted(last.keys() - kept):
        spent[last[tensor]].append(tensor)
    return tuple(map(tuple, spent))


def get_last_uses(program: Program) -> tuple[tuple[TensorId, ...], ...]:
    """Return, for each op of a step, the tensors that no later op reads."""
    return _get_last_uses(program.spec)
