"""The forward pass of a model as a program of its own: the ops of the training program that its logits depend on.

No arithmetic is defined here a second time: tensors keep the ids that the training program gives them, and ops are
numbered anew. What is read is given instead of drawn, and weights are those of the whole model whatever the window's
length, so that they open under the checkpoint's root. It knows no token, no trace and no file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from chain.primitives import ZERO_HASH
from ml.arithmetic import I32, IntArray
from ml.backends import Backend
from ml.checkpoint import Checkpoint
from ml.dataset import Text
from ml.models import build_program
from ml.program import Matmul, Op, Program, Tensor, TensorId
from ml.segment import Runner, StepTensors, as_i32, run_op
from ml.spec import Decoder, Spec

FORWARDS_KEPT = 64
"""Forward programs in memory, one for each length of a window: nine of a model at most."""
NO_DATA = Text(np.zeros(0, np.uint8), np.zeros(0, np.uint8), ZERO_HASH)
"""A forward pass reads no data set."""


@dataclass(frozen=True, slots=True)
class Forward:
    """The program of one pass over one window, or over one example."""

    program: Program
    """Its ops alone: no optimizer, no delta, nothing stochastic, and no op that makes `given`."""
    given: TensorId
    """Tokens (length, 1) int32, or x (1, inputs) int32 F16."""
    logits: TensorId
    """(length or 1, classes) int32 F16."""
    fixed: tuple[Op, ...]
    """Ops that read weights alone: of every pass the same."""
    changing: tuple[Op, ...]
    """All others, in order."""
    places: Mapping[TensorId, int]
    """By tensor the place of an op's output among all outputs, in program order."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model's weights on a backend, what depends on them alone computed once."""

    spec: Spec
    backend: Backend
    weights: tuple[I32, ...]
    """By parameter, F24."""
    fixed: Mapping[TensorId, IntArray]
    """The outputs of `Forward.fixed`."""


def build_forward(spec: Spec, length: int) -> Forward:
    """Return the forward program of `spec` over a window of `length` tokens; a classifier's reads one example."""
    return _build_forward(spec, length if isinstance(spec.model, Decoder) else 1)


@lru_cache(FORWARDS_KEPT)
def _build_forward(spec: Spec, length: int) -> Forward:
    # Specs of answers come from strangers: their programs must not put out those that `build_program` keeps.
    whole = build_program.__wrapped__(spec)
    training = build_program.__wrapped__(shorten(spec, length))
    loss = training.get_producer(training.loss)
    assert loss is not None
    given, logits = training.ops[0].outputs[0], loss.inputs[0]
    chosen = select_ops(training, logits)
    ops = tuple(replace(op, index=index) for index, op in enumerate(chosen))
    program = Program(
        spec=training.spec,
        parameters=whole.parameters,
        tensors=_take_weights(training.tensors, whole),
        ops=ops,
        delta_ops=(),
        matmuls=_renumber(training, chosen),
        state_inputs=whole.state_inputs[: len(whole.parameters)],
        state_outputs=(),
        checkpoint_weights=(),
        loss=training.loss,
    )
    state = frozenset(program.state_inputs)
    fixed = tuple(op for op in ops if state.issuperset(op.inputs))
    changing = tuple(op for op in ops if not state.issuperset(op.inputs))
    outputs = (output for op in ops for output in op.outputs)
    return Forward(program, given, logits, fixed, changing, {output: place for place, output in enumerate(outputs)})


def shorten(spec: Spec, length: int) -> Spec:
    """Return the spec of one step over one window of `length` tokens, or over one example."""
    model = replace(spec.model, context=length) if isinstance(spec.model, Decoder) else spec.model
    return replace(spec, model=model, batch=1, segment_steps=1, warmup_steps=0, decay_steps=0)


def select_ops(program: Program, target: TensorId) -> tuple[Op, ...]:
    """Return the ops of a training program that `target` depends on, without the drawing of the batch, in order."""
    needed, ops = {target}, []
    for op in reversed(program.ops[1:]):
        if needed.intersection(op.outputs):
            needed.update(op.inputs)
            ops.append(op)
    return tuple(reversed(ops))


def load_model(spec: Spec, backend: Backend, weights: tuple[I32, ...]) -> LoadedModel:
    """Return the model with what depends on its weights alone."""
    forward = build_forward(spec, 1)
    tensors: StepTensors = dict(zip(forward.program.state_inputs, weights, strict=True))
    _run_ops(forward, backend, weights, forward.fixed, tensors)
    fixed = {output: tensors[output] for op in forward.fixed for output in op.outputs}
    return LoadedModel(spec, backend, weights, fixed)


def run_pass(model: LoadedModel, given: I32) -> tuple[Forward, StepTensors]:
    """Return the program of a pass over `given` and all its tensors: weights, `given`, outputs of all ops.

    `given` is (length, 1) int32 tokens of a window, or (1, inputs) int32 F16 of an example.
    """
    forward = build_forward(model.spec, len(given))
    tensors: StepTensors = dict(zip(forward.program.state_inputs, model.weights, strict=True))
    tensors.update(model.fixed)
    tensors[forward.given] = given
    _run_ops(forward, model.backend, model.weights, forward.changing, tensors)
    return forward, tensors


def get_logits(forward: Forward, tensors: StepTensors) -> I32:
    """Return the logits of a pass, (length or 1, classes) int32 F16."""
    return as_i32(tensors[forward.logits])


def _run_ops(
    forward: Forward, backend: Backend, weights: tuple[I32, ...], ops: Iterable[Op], tensors: StepTensors
) -> None:
    """Add the outputs of `ops` to `tensors`."""
    runner = Runner(forward.program, backend, NO_DATA, b"", Checkpoint(weights, ()))
    for op in ops:
        assert not op.is_stochastic
        outputs = run_op(runner, 0, op, [tensors[tensor] for tensor in op.inputs])
        tensors.update(zip(op.outputs, outputs, strict=True))


def _take_weights(tensors: tuple[Tensor, ...], whole: Program) -> tuple[Tensor, ...]:
    """Return `tensors` with the state tensors of the whole model: a short window reads the first positions of all."""
    count = len(whole.state_inputs)
    assert whole.state_inputs == tuple(range(count))
    return whole.tensors[:count] + tensors[count:]


def _renumber(training: Program, chosen: tuple[Op, ...]) -> tuple[Matmul, ...]:
    found = ((index, training.get_matmul(op.index)) for index, op in enumerate(chosen))
    return tuple(replace(matmul, op=index) for index, matmul in found if matmul is not None)
