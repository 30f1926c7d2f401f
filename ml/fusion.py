"""Which ops of a step may run as one, when nobody watches the tensors between them.

A table of patterns over the program: runs of ops whose inner tensors no other op reads, except the run that is its
counterpart in the backward pass, which makes them again. A backend that has the fused ops gives the bytes of the single
ones. It computes nothing and knows no backend's inside; `ml.training` runs the plan.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Protocol, runtime_checkable

from ml.arithmetic import I32, IntArray
from ml.backends import Heads, Quantised
from ml.models import build_program
from ml.program import Op, OpKind, Program, TensorId
from ml.rotary import get_rotation_table
from ml.segment import as_i8, as_i32, get_heads
from ml.spec import Decoder, Positions, Spec

Shifts = tuple[int, int, int]
"""Of scores, of weighted values, of the gradients of queries and keys."""
Rotation = tuple[I32, I32] | None
"""Cosines and sines (context, head width // 2) int32 F30."""


@dataclass(frozen=True, slots=True)
class Attention:
    """The attributes of attention over all heads of a layer."""

    heads: Heads
    shifts: Shifts
    rotation: Rotation


@runtime_checkable
class FusedBackend(Protocol):
    """Ops that stand for runs of ops of `ml.backends.Backend`, to the byte."""

    def multiply_rescaled(self, a: Quantised, b: Quantised, shift: int) -> I32:
        """Return `rescale(multiply(a, b))` of one group."""

    def attend(self, qkv: I32, attention: Attention) -> I32:
        """Return the weighted values (rows, width) of queries, keys and values side by side (rows, 3 width)."""

    def attend_backward(self, qkv: I32, gradient: I32, attention: Attention, keys: tuple[int, ...]) -> I32:
        """Return the gradient of qkv from that of the weighted values.

        `keys`: of the roundings of `gradient` by rows and by columns, of the scores' gradient by rows and by columns.
        """


class FusedKind(Enum):
    """What a run of ops computes together."""

    LINEAR = 1
    """A product of one group and its rescaling."""
    ATTEND = 2
    ATTEND_BACKWARD = 3


@dataclass(frozen=True, slots=True)
class Fused:
    """A run of ops that is one call."""

    kind: FusedKind
    ops: tuple[Op, ...]
    inputs: tuple[TensorId, ...]
    outputs: tuple[TensorId, ...]


_VIEWS = (OpKind.QUANTISE_ROWS, OpKind.QUANTISE_TRANSPOSED)
_TURNS = ((), (OpKind.ROTATE, OpKind.ROTATE))
_ATTEND = tuple(
    (
        *(OpKind.SPLIT_HEADS,) * 3,
        *turns,
        *_VIEWS * 3,
        *(OpKind.LINEAR, OpKind.CAUSAL_SOFTMAX),
        *_VIEWS,
        *(OpKind.LINEAR, OpKind.MERGE_HEADS),
    )
    for turns in _TURNS
)
_ATTEND_BACKWARD = tuple(
    (
        OpKind.SPLIT_HEADS,
        *_VIEWS,
        *(OpKind.LINEAR, OpKind.LINEAR, OpKind.CAUSAL_SOFTMAX_BACKWARD),
        *_VIEWS,
        *(OpKind.LINEAR, OpKind.LINEAR),
        *turns,
        OpKind.MERGE_HEADS,
    )
    for turns in _TURNS
)
_PATTERNS = tuple((FusedKind.ATTEND, kinds) for kinds in _ATTEND) + tuple(
    (FusedKind.ATTEND_BACKWARD, kinds) for kinds in _ATTEND_BACKWARD
)


def get_plan(program: Program) -> tuple[Op | Fused, ...]:
    """Return the ops of a step in order, runs of them as one where a pattern fits."""
    return _get_plan(program.spec)


@cache
def _get_plan(spec: Spec) -> tuple[Op | Fused, ...]:
    program = build_program(spec)
    plan: list[Op | Fused] = []
    sources: dict[int, TensorId] = {}
    at = 0
    while at < len(program.ops):
        fused = _match(program, at, sources)
        plan.append(fused or program.ops[at])
        at += len(fused.ops) if fused else 1
    return tuple(plan)


def _match(program: Program, at: int, sources: dict[int, TensorId]) -> Fused | None:
    """Return the run of ops that starts at `at`; `sources` gains the input of each layer's attention."""
    op = program.ops[at]
    if op.kind is OpKind.LINEAR and op.groups == 1 and not op.is_causal:
        return Fused(FusedKind.LINEAR, (op,), op.inputs, op.outputs)
    for kind, kinds in _PATTERNS:
        ops = program.ops[at : at + len(kinds)]
        if tuple(op.kind for op in ops) != kinds:
            continue
        layer, first, last = ops[0].layer, ops[0], ops[-1]
        assert all(op.layer == layer for op in ops)
        if kind is FusedKind.ATTEND:
            sources[layer] = first.inputs[0]
            return Fused(kind, ops, first.inputs, last.outputs)
        return Fused(kind, ops, (sources[layer], first.inputs[0]), last.outputs)
    return None


def run_fused(
    backend: FusedBackend, spec: Spec, fused: Fused, inputs: Sequence[IntArray], get_key: Callable[[int], int]
) -> tuple[IntArray, ...]:
    """Return the outputs of a run of ops; `get_key` gives the rounding key of an op by its index."""
    if fused.kind is FusedKind.LINEAR:
        a, b = ((as_i8(inputs[i]), as_i32(inputs[i + 1])) for i in (0, 2))
        return (backend.multiply_rescaled(a, b, fused.ops[0].shift),)
    model = spec.model
    assert isinstance(model, Decoder)
    tensors = [as_i32(array) for array in inputs]
    rotation = get_rotation_table(model.context, model.head_width) if model.positions == Positions.ROTARY else None
    attention = Attention(get_heads(model), get_shifts(spec), rotation)
    if fused.kind is FusedKind.ATTEND:
        return (backend.attend(tensors[0], attention),)
    keys = tuple(get_key(op.index) for op in fused.ops if op.is_stochastic)
    return (backend.attend_backward(tensors[0], tensors[1], attention, keys),)


def get_shifts(spec: Spec) -> Shifts:
    """Return the shifts of the products inside attention, as the program has them."""
    return _get_shifts(spec)


@cache
def _get_shifts(spec: Spec) -> Shifts:
    shifts: dict[FusedKind, list[int]] = {}
    for item in _get_plan(spec):
        if isinstance(item, Fused):
            shifts[item.kind] = [op.shift for op in item.ops if op.kind is OpKind.LINEAR]
    (scores, values), (values_again, scores_again, queries, keys) = (
        shifts[FusedKind.ATTEND],
        shifts[FusedKind.ATTEND_BACKWARD],
    )
    assert (scores, values, queries) == (scores_again, values_again, keys)
    return scores, values, queries
