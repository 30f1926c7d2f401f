"""What a checkpoint is worth on held-out data, in integers: losses, hits, and the logits themselves.

It runs the forward ops of the program, those that the loss depends on, on inputs that are given instead of drawn. It
knows no training.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ml.arithmetic import I32
from ml.backends import Backend
from ml.checkpoint import Checkpoint
from ml.dataset import Dataset, Examples, Text
from ml.forward import select_ops
from ml.models import build_program
from ml.program import Op, OpKind, Program
from ml.segment import Runner, StepTensors, as_i32, run_op
from ml.spec import Decoder, Spec

HELDOUT_TOKENS = 8_192
"""Tokens of the held-out text that a checkpoint is scored on, as whole windows from its start."""
EVALUATION_ROWS = 2_048
"""Rows that go through the model at a time."""
ELEMENT_MACS = 16
"""What an element that an op writes counts as beside products. One of attention's took 2.6 ns or more, a
multiply-accumulate of wide layers 0.05 at most."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a checkpoint does on the held-out examples or tokens."""

    loss_f16: int
    """Sum of the losses in bits, F16."""
    correct: int
    count: int


def compute_evaluation(
    program: Program, backend: Backend, checkpoint: Checkpoint, dataset: Dataset, tokens: int = HELDOUT_TOKENS
) -> Evaluation:
    """Return losses and hits of the checkpoint on the held-out data; ties go to the lowest class."""
    loss_f16 = correct = count = 0
    for x, labels in _iterate_heldout(program.spec, dataset, tokens):
        logits, loss = compute_logits(program, backend, checkpoint, dataset, (x, labels))
        loss_f16 += int(loss.astype(np.int64).sum())
        correct += int(np.count_nonzero(logits.argmax(axis=1) == labels[:, 0]))
        count += len(labels)
    return Evaluation(loss_f16, correct, count)


def compute_scoring_macs(spec: Spec, dataset: Dataset, tokens: int = HELDOUT_TOKENS) -> int:
    """Return what scoring a checkpoint takes, in MACs: those of its products, and `ELEMENT_MACS` for each element."""
    sequences, calls = _count_heldout(spec, dataset, tokens)
    one, two = (_compute_forward_macs(replace(spec, batch=batch)) for batch in (1, 2))
    # What is made of weights alone is made once a call, all else once a sequence.
    return sequences * (two - one) + calls * (2 * one - two)


def _compute_forward_macs(spec: Spec) -> int:
    program = build_program(spec)
    ops = select_ops(program, program.loss)
    products = (program.get_matmul(op.index) for op in ops)
    outputs = (program.tensors[output] for op in ops for output in op.outputs)
    elements = sum(tensor.rows * tensor.columns for tensor in outputs)
    return sum(product.macs for product in products if product is not None) + ELEMENT_MACS * elements


def _count_heldout(spec: Spec, dataset: Dataset, tokens: int) -> tuple[int, int]:
    """Return the examples or windows that a checkpoint is scored on, and in how many calls they go through it."""
    if isinstance(dataset, Examples):
        return len(dataset.heldout_x), -(-len(dataset.heldout_x) // EVALUATION_ROWS)
    assert isinstance(spec.model, Decoder)
    windows, at_once = _count_windows(dataset, spec.model.context, tokens)
    return windows, -(-windows // at_once)


def compute_logits(
    program: Program, backend: Backend, checkpoint: Checkpoint, dataset: Dataset, inputs: tuple[I32, I32]
) -> tuple[I32, I32]:
    """Return logits (rows, classes) int32 F16 and losses (rows, 1) int32 F16 of `inputs`.

    Inputs are x (rows, in) and labels (rows, 1), or tokens and targets (rows, 1) of whole windows.
    """
    model = program.spec.model
    batch = len(inputs[0]) // model.context if isinstance(model, Decoder) else len(inputs[0])
    program = build_program(replace(program.spec, batch=batch))
    runner = Runner(program, backend, dataset, b"", checkpoint)
    tensors: StepTensors = dict(zip(program.state_inputs, checkpoint.weights, strict=False))
    tensors.update(zip(program.ops[0].outputs, inputs, strict=True))
    for op in get_forward_ops(program):
        outputs = run_op(runner, 0, op, [tensors[tensor] for tensor in op.inputs])
        tensors.update(zip(op.outputs, outputs, strict=True))
    loss = program.get_producer(program.loss)
    assert loss is not None
    return as_i32(tensors[loss.inputs[0]]), as_i32(tensors[program.loss])


@cache
def _get_forward_ops(spec: Spec) -> tuple[Op, ...]:
    program = build_program(spec)
    return select_ops(program, program.loss)


def get_forward_ops(program: Program) -> tuple[Op, ...]:
    """Return the ops that the loss depends on, without the drawing of the batch, in order."""
    assert program.ops[0].kind in (OpKind.BATCH, OpKind.WINDOWS)
    return _get_forward_ops(program.spec)


def _iterate_heldout(spec: Spec, dataset: Dataset, tokens: int) -> Iterator[tuple[I32, I32]]:
    if isinstance(dataset, Examples):
        for start in range(0, len(dataset.heldout_x), EVALUATION_ROWS):
            rows = slice(start, start + EVALUATION_ROWS)
            yield dataset.heldout_x[rows], dataset.heldout_labels[rows]
        return
    assert isinstance(spec.model, Decoder)
    yield from _iterate_windows(dataset, spec.model.context, tokens)


def _iterate_windows(text: Text, context: int, tokens: int) -> Iterator[tuple[I32, I32]]:
    """Yield tokens and targets (rows, 1) of successive windows."""
    count, at_once = _count_windows(text, context, tokens)
    for first in range(0, count, at_once):
        start, stop = first * context, min(first + at_once, count) * context
        yield (
            text.heldout[start:stop].astype(np.int32)[:, None],
            text.heldout[start + 1 : stop + 1].astype(np.int32)[:, None],
        )


def _count_windows(text: Text, context: int, tokens: int) -> tuple[int, int]:
    """Return how many windows are scored, and how many at a time."""
    return max(1, min(tokens, len(text.heldout) - 1) // context), max(1, EVALUATION_ROWS // context)
