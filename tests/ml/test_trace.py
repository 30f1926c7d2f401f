"""A trace's roots are wired by the program: every bit of them reaches the trace root."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.program import Dtype, OpKind, Program
from ml.segment import Runner, StepTensors, run_steps
from ml.spec import DIGITS, Mlp
from ml.tensor_tree import IntArray, compute_tensor_root
from ml.trace import (
    Trace,
    compute_delta_root,
    compute_operand_roots,
    compute_output_roots_size,
    compute_step_roots,
    compute_trace_root,
)

PROGRAM = build_program(replace(DIGITS, model=Mlp((8, 6, 3)), batch=5, segment_steps=3, warmup_steps=1, decay_steps=1))
NUMPY = {Dtype.INT8: "int8", Dtype.INT32: "int32", Dtype.INT64: "int64"}


def make_trace(program: Program = PROGRAM) -> Trace:
    roots = b"".join(tagged_hash("test", bytes([i // 32])) for i in range(0, compute_output_roots_size(program), 32))
    checkpoint = tuple(tagged_hash("test", b"w", bytes([layer])) for layer in range(len(program.parameters)))
    return Trace(program, checkpoint, roots)


def test_every_root_reaches_the_trace_root() -> None:
    trace = make_trace()
    root = compute_trace_root(trace)
    for start in range(0, len(trace.output_roots), 32):
        changed = bytearray(trace.output_roots)
        changed[start] ^= 1
        assert compute_trace_root(replace(trace, output_roots=bytes(changed))) != root


def test_state_is_wired_from_step_to_step() -> None:
    trace, program = make_trace(), PROGRAM
    for before, after in zip(program.state_inputs, program.state_outputs, strict=True):
        assert trace.get_root(2, before) == trace.get_root(1, after)
    weights, moments = program.state_inputs[: len(program.parameters)], program.state_inputs[len(program.parameters) :]
    assert [trace.get_root(0, w) for w in weights] == list(trace.checkpoint_roots)
    for moment in moments:
        tensor = program.tensors[moment]
        assert trace.get_root(0, moment) == compute_tensor_root(
            np.zeros((tensor.rows, tensor.columns), NUMPY[tensor.dtype])
        )
    assert trace.get_root(2, program.checkpoint_weights[1]) == trace.checkpoint_roots[1]


def test_step_roots_stand_where_they_are_looked_up() -> None:
    rng, steps, tables = np.random.default_rng(0), b"", []
    for step in range(PROGRAM.steps):
        outputs = [PROGRAM.tensors[output] for output in PROGRAM.get_step_outputs(step)]
        tensors = {t.id: rng.integers(-9, 9, (t.rows, t.columns)).astype(NUMPY[t.dtype]) for t in outputs}
        steps += compute_step_roots(PROGRAM, step, tensors)
        tables.append(tensors)
    trace = replace(make_trace(), output_roots=steps)
    for step, tensors in enumerate(tables):
        for tensor, array in tensors.items():
            assert trace.get_root(step, tensor) == compute_tensor_root(array)
        for matmul in PROGRAM.matmuls:
            roots = compute_operand_roots(PROGRAM, steps, step, matmul.op)
            assert roots == (compute_tensor_root(tensors[matmul.a]), compute_tensor_root(tensors[matmul.b]))


@pytest.mark.parametrize(("step", "op"), [(3, 3), (-1, 3), (0, 0), (0, 999), (0, -1)])
def test_operands_of_no_matmul_are_refused(step: int, op: int) -> None:
    assert PROGRAM.ops[0].kind is OpKind.BATCH
    with pytest.raises(InvalidProof, match="ticket-place"):
        compute_operand_roots(PROGRAM, make_trace().output_roots, step, op)


@pytest.mark.parametrize("size", [-32, -1, 1, 32])
def test_a_root_too_few_or_too_many_is_refused(size: int) -> None:
    trace = make_trace()
    roots = trace.output_roots[:size] if size < 0 else trace.output_roots + bytes(size)
    with pytest.raises(InvalidProof, match="sidecar-size"):
        compute_trace_root(replace(trace, output_roots=roots))
    with pytest.raises(InvalidProof, match="sidecar-size"):
        compute_delta_root(PROGRAM, roots)


def test_delta_root_follows_the_delta_outputs_alone() -> None:
    roots = make_trace().output_roots
    root = compute_delta_root(PROGRAM, roots)
    assert compute_delta_root(PROGRAM, bytes(32) + roots[32:]) == root
    assert compute_delta_root(PROGRAM, roots[:-32] + Hash(bytes(32))) != root


def test_no_tensor_of_a_segment_is_hashed_twice() -> None:
    program = build_program(replace(PROGRAM.spec, model=Mlp((64, 6, 10))))
    runner = Runner(
        program, get_backend("reference"), load_digits(DIGITS.heldout), bytes(32), compute_initial_checkpoint(program)
    )
    hashed, read = list[IntArray](), list[IntArray]()

    def hash_tensors(arrays: Sequence[IntArray]) -> tuple[Hash, ...]:
        hashed.extend(arrays)
        return tuple(map(compute_tensor_root, arrays))

    def on_step(step: int, tensors: StepTensors) -> None:
        read.extend(tensors[tensor] for tensor in program.state_inputs)
        compute_step_roots(program, step, tensors, hash_tensors)

    run_steps(runner, on_step)
    addresses = [array.ctypes.data for array in hashed]
    assert len(set(addresses)) == len(addresses) == compute_output_roots_size(program) // 32
    # What a later step reads is what an earlier one wrote: it has a root already.
    assert {array.ctypes.data for array in read[len(program.state_inputs) :]} < set(addresses)
    assert not {array.ctypes.data for array in read[: len(program.state_inputs)]} & set(addresses)
