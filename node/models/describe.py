"""A spec's program as people read it: every op in order with its tensors, and what a step costs.

All numbers follow from the spec; nothing is run.
"""

from dataclasses import dataclass

from ml.models import build_program
from ml.program import Op, OpKind, Program, TensorId
from ml.spec import Spec, compute_spec_hash
from ml.training import get_last_uses


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor that an op reads or writes."""

    name: str
    shape: tuple[int, int]
    dtype: str

    @property
    def text(self) -> str:
        """`name (rows, columns) dtype`."""
        return f"{self.name} ({self.shape[0]}, {self.shape[1]}) {self.dtype}"


@dataclass(frozen=True, slots=True)
class OpView:
    """An op of the program."""

    index: int
    kind: str
    layer: int
    inputs: tuple[TensorView, ...]
    outputs: tuple[TensorView, ...]
    macs: int
    is_segment_end: bool
    """Whether it runs after the last step of a segment alone."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What a step costs; sizes are in bytes."""

    spec_hash: str
    parameters: int
    ops: int
    step_macs: int
    state_bytes: int
    """Weights and both moments."""
    activation_bytes: int
    """All activations and gradients of a step together, as a trace commits them."""
    held_bytes_max: int
    """The most of them that live at one time when each is let go after its last use."""


def list_ops(spec: Spec) -> tuple[OpView, ...]:
    """Return the ops of a step, then those that end a segment, in order."""
    program = build_program(spec)
    return tuple(_make_op(program, op) for op in program.ops + program.delta_ops)


def compute_totals(spec: Spec) -> Totals:
    """Return what a step of a valid spec costs."""
    program = build_program(spec)
    outputs = [tensor for op in program.ops if op.kind is not OpKind.ADAM for tensor in op.outputs]
    return Totals(
        spec_hash=compute_spec_hash(spec).hex(),
        parameters=sum(parameter.count for parameter in program.parameters),
        ops=len(program.ops),
        step_macs=program.step_macs,
        state_bytes=_sum_bytes(program, program.state_inputs),
        activation_bytes=_sum_bytes(program, outputs),
        held_bytes_max=_compute_held_max(program),
    )


def _compute_held_max(program: Program) -> int:
    held = highest = 0
    states = {*program.state_inputs, *program.state_outputs}
    for op, spent in zip(program.ops, get_last_uses(program), strict=True):
        held += _sum_bytes(program, [tensor for tensor in op.outputs if tensor not in states])
        highest = max(highest, held)
        held -= _sum_bytes(program, [tensor for tensor in spent if tensor not in states])
    return highest


def _sum_bytes(program: Program, tensors: list[TensorId] | tuple[TensorId, ...]) -> int:
    return sum(program.tensors[tensor].size_bytes for tensor in tensors)


def _make_op(program: Program, op: Op) -> OpView:
    matmul = program.get_matmul(op.index)
    inputs, outputs = (tuple(_make_tensor(program, tensor) for tensor in ids) for ids in (op.inputs, op.outputs))
    is_end = op.index >= len(program.ops)
    return OpView(op.index, op.kind.name, op.layer, inputs, outputs, matmul.macs if matmul else 0, is_end)


def _make_tensor(program: Program, tensor: TensorId) -> TensorView:
    found = program.tensors[tensor]
    return TensorView(found.name, (found.rows, found.columns), found.dtype.name.lower())
