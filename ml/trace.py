"""The trace of a segment: which root every tensor of every step has, and the few hashes that bind them all.

The program fixes which tensors exist, so a trace is the concatenation of its output roots, step by step in program
order (`output_roots`); everything else is computed from them and from the checkpoint's roots. Ids, never the prover,
say which root an op reads: no two honest halves can be spliced. It runs no op and opens no tensor.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from chain.merkle import blake3_node, compute_root
from chain.primitives import Hash
from ml.models import build_program
from ml.program import Dtype, Program, Tensor, TensorId, TensorKind
from ml.spec import Spec
from ml.tensor_tree import DIGEST_BYTES, IntArray, TensorShape, compute_tensor_root

RootHasher = Callable[[Sequence[IntArray]], tuple[Hash, ...]]
"""Returns the tensor root of each array; every implementation gives the same."""


def hash_one_by_one(arrays: Sequence[IntArray]) -> tuple[Hash, ...]:
    """Return the tensor roots by the reference."""
    return tuple(map(compute_tensor_root, arrays))


@dataclass(frozen=True, slots=True)
class Trace:
    """The roots of one segment: those it started from and those of every op's outputs.

    `checkpoint_roots` are the tensor roots of the checkpoint's weights by parameter.
    """

    program: Program
    checkpoint_roots: tuple[Hash, ...]
    output_roots: bytes

    def get_root(self, step: int, tensor: TensorId) -> Hash:
        """Return the root of `tensor` as step `step` reads or writes it."""
        kind = self.program.tensors[tensor].kind
        if kind is TensorKind.OUTPUT:
            return get_output_root(self.program, self.output_roots, step, tensor)
        if kind is TensorKind.CHECKPOINT:
            return self.checkpoint_roots[self.program.checkpoint_weights.index(tensor)]
        place = self.program.state_inputs.index(tensor)
        if step > 0:
            return self.get_root(step - 1, self.program.state_outputs[place])
        if place < len(self.program.parameters):
            return self.checkpoint_roots[place]
        return _compute_zero_root(get_tensor_shape(self.program.tensors[tensor]))


def get_tensor_shape(tensor: Tensor) -> TensorShape:
    """Return the shape by which openings of `tensor` are checked."""
    return TensorShape(tensor.rows, tensor.columns, tensor.dtype)


def compute_output_roots_size(program: Program) -> int:
    """Return the bytes of a segment's output roots."""
    steps = program.steps
    count = (steps - 1) * len(program.get_step_outputs(0)) + len(program.get_step_outputs(steps - 1))
    return count * DIGEST_BYTES


def validate_output_roots(program: Program, output_roots: bytes) -> None:
    """Check that there is one root for every output of every step; raises InvalidProof."""
    expected = compute_output_roots_size(program)
    if len(output_roots) != expected:
        raise InvalidProof("sidecar-size", f"found {len(output_roots)} bytes of roots, expected {expected}")


def get_output_root(program: Program, output_roots: bytes, step: int, tensor: TensorId) -> Hash:
    """Return the root that `output_roots`, of the right size, gives for an op's output in `step`."""
    count, places = _get_places(program.spec)
    assert places[tensor] >= 0
    start = (step * count + places[tensor]) * DIGEST_BYTES
    return Hash(output_roots[start : start + DIGEST_BYTES])


def compute_step_roots(
    program: Program,
    step: int,
    tensors: Mapping[TensorId, IntArray],
    hash_tensors: RootHasher = hash_one_by_one,
) -> bytes:
    """Return the output roots of one step from its tensors: its part of `output_roots`."""
    return b"".join(hash_tensors([tensors[output] for output in program.get_step_outputs(step)]))


def compute_operand_roots(program: Program, output_roots: bytes, step: int, op: int) -> tuple[Hash, Hash]:
    """Return the roots of A (M, K) and B transposed (N, K) of one matmul; raises InvalidProof where none is."""
    validate_output_roots(program, output_roots)
    matmul = program.get_lottery_matmul(op)
    if matmul is None or not 0 <= step < program.steps:
        raise InvalidProof("ticket-place", f"found step {step}, op {op}, expected a matmul of a linear layer")
    roots = [get_output_root(program, output_roots, step, operand) for operand in (matmul.a, matmul.b)]
    return roots[0], roots[1]


def compute_trace_root(trace: Trace) -> Hash:
    """Return the root over all step roots; raises InvalidProof when a root is missing or too many."""
    validate_output_roots(trace.program, trace.output_roots)
    return compute_root([compute_step_root(trace, step) for step in range(trace.program.steps)], blake3_node)


def compute_step_root(trace: Trace, step: int) -> Hash:
    """Return the root over the records of one step's ops, the state root after the step as its last leaf."""
    program, roots = trace.program, trace.output_roots
    start, records = step * _get_places(program.spec)[0] * DIGEST_BYTES, []
    for head, size_bytes in _get_record_heads(program.spec)[: len(program.get_step_ops(step))]:
        records.append(head + roots[start : start + size_bytes])
        start += size_bytes
    return compute_root([*records, compute_state_root(trace, step)], blake3_node)


def compute_state_root(trace: Trace, step: int) -> Hash:
    """Return the hash that binds weights and moments after `step`."""
    count, places = _get_places(trace.program.spec)
    starts = [(step * count + places[tensor]) * DIGEST_BYTES for tensor in trace.program.state_outputs]
    return tagged_hash("state", *(trace.output_roots[start : start + DIGEST_BYTES] for start in starts))


def compute_delta_root(program: Program, output_roots: bytes) -> Hash:
    """Return the hash that binds the outputs of the delta ops; raises InvalidProof."""
    validate_output_roots(program, output_roots)
    last = program.steps - 1
    outputs = (output for op in program.delta_ops for output in op.outputs)
    return tagged_hash("delta", *(get_output_root(program, output_roots, last, output) for output in outputs))


@cache
def _get_record_heads(spec: Spec) -> tuple[tuple[bytes, int], ...]:
    """Return what each op's record begins with, its index and the ids of its inputs, and the bytes of its roots."""
    program = build_program(spec)
    return tuple(
        (
            b"".join(number.to_bytes(2, "little") for number in (op.index, *op.inputs)),
            len(op.outputs) * DIGEST_BYTES,
        )
        for op in program.ops + program.delta_ops
    )


@cache
def _get_places(spec: Spec) -> tuple[int, tuple[int, ...]]:
    """Return the outputs of a step other than the last, and by tensor id the place of an output in its step.

    Only the last step has more outputs, at its end, so one table serves all. The spec is the key: it hashes quickly.
    """
    program = build_program(spec)
    outputs = program.get_step_outputs(program.steps - 1)
    places = {output: place for place, output in enumerate(outputs)}
    return sum(len(op.outputs) for op in program.ops), tuple(places.get(tensor.id, -1) for tensor in program.tensors)


@cache
def _compute_zero_root(shape: TensorShape) -> Hash:
    code = {Dtype.INT8: np.int8, Dtype.INT32: np.int32, Dtype.INT64: np.int64}[shape.dtype]
    return compute_tensor_root(np.zeros((shape.rows, shape.columns), code))
