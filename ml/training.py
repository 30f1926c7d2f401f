"""Training without a trace: steps that keep a tensor only until its last use.

`ml.segment` runs a segment with every tensor in sight, for commitment; here is the same program for whoever trains on
his own machine, op by op or, on a backend that can, with runs of ops as one. All give the same bytes. It knows no file,
no clock and no process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ml.arithmetic import IntArray
from ml.fusion import Fused, FusedBackend, get_plan, run_fused
from ml.models import build_program
from ml.prf import compute_key
from ml.program import Op, OpKind, Program, TensorId, TensorKind
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
    # A lent matmul must see every product; fused ops keep theirs to themselves.
    fused = runner.backend if isinstance(runner.backend, FusedBackend) and runner.multiply is None else None
    tensors = dict(zip(program.state_inputs, state, strict=True))
    held = held_max = 0
    for item, spent in _get_schedule(program.spec, fused is not None):
        inputs = [tensors[tensor] for tensor in item.inputs]
        if isinstance(item, Op):
            outputs = run_op(runner, step, item, inputs)
        else:
            assert fused is not None
            outputs = run_fused(
                fused, program.spec, item, inputs, lambda op: compute_key(runner.segment_seed, step, op)
            )
        tensors.update(zip(item.outputs, outputs, strict=True))
        if not isinstance(item, Op) or item.kind is not OpKind.ADAM:
            held += sum(output.nbytes for output in outputs)
        held_max = max(held_max, held)
        for tensor in spent:
            held -= 0 if program.tensors[tensor].kind is TensorKind.STATE else tensors[tensor].nbytes
            del tensors[tensor]
    loss_f16 = int(tensors[program.loss].astype(np.int64).sum())
    after = tuple(tensors[tensor] for tensor in program.state_outputs)
    return StepResult(after, loss_f16, count_rows(program.spec), held_max)


Schedule = tuple[tuple[Op | Fused, tuple[TensorId, ...]], ...]
"""What is run, in order, and the tensors that nothing after it reads."""


@cache
def _get_schedule(spec: Spec, is_fused: bool) -> Schedule:
    program = build_program(spec)
    plan = get_plan(program) if is_fused else program.ops
    return tuple(zip(plan, _find_last_uses(program, plan), strict=True))


@cache
def _get_last_uses(spec: Spec) -> tuple[tuple[TensorId, ...], ...]:
    program = build_program(spec)
    return _find_last_uses(program, program.ops)


def get_last_uses(program: Program) -> tuple[tuple[TensorId, ...], ...]:
    """Return, for each op of a step, the tensors that no later op reads."""
    return _get_last_uses(program.spec)


def _find_last_uses(program: Program, plan: Sequence[Op | Fused]) -> tuple[tuple[TensorId, ...], ...]:
    last: dict[TensorId, int] = {}
    for place, item in enumerate(plan):
        last.update(dict.fromkeys((*item.inputs, *item.outputs), place))
    kept = {program.loss, *program.state_outputs}
    spent: list[list[TensorId]] = [[] for _ in plan]
    for tensor in sorted(last.keys() - kept):
        spent[last[tensor]].append(tensor)
    return tuple(map(tuple, spent))
