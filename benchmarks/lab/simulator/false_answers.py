"""Answers as providers give them: an honest one, and false ones of which most can be opened.

A false one has another byte than the model gives. What it was made by is either another model, of which one layer or
every layer is not the checkpoint's, or nothing: then all is honest but the byte. Each lie knows at which ops it cannot
be opened. It knows no chain.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from random import Random

import numpy as np

from chain.primitives import Hash
from ml.answer import Request
from ml.answering import Served, Traced, compute_answer, make_served
from ml.arithmetic import I32
from ml.backends import get_backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.forward import build_forward, load_model
from ml.models import build_program
from ml.spec import Spec
from node.inference.serving import ReceiptMaker

INPUTS = 64
TRIES_MAX = 64


@dataclass(frozen=True, slots=True)
class Given:
    """An answer, what it was made by, and the ops of its pass that no opening shows."""

    served: Served
    traced: Traced
    false_ops: frozenset[int] = frozenset()

    @property
    def is_honest(self) -> bool:
        """Whether it is what the model gives."""
        return not self.false_ops


def make_request(random: Random) -> Request:
    """Return a request that one class is chosen for one example."""
    pixels = np.array([random.randrange(-(1 << 16), 1 << 16) for _ in range(INPUTS)], "<i4")
    return Request(pixels.tobytes(), 1, 0, 0, 0, ())


@cache
def make_maker(spec: Spec) -> ReceiptMaker:
    """Return the first checkpoint of a spec, ready to answer."""
    checkpoint = compute_initial_checkpoint(build_program(spec))
    roots = compute_tensor_roots([*checkpoint.weights, *checkpoint.momentum])
    return ReceiptMaker(_serve(spec, checkpoint.weights, compute_checkpoint_root(checkpoint)), roots)


def answer_honestly(maker: ReceiptMaker, request: Request) -> Given:
    """Return what the model gives."""
    return Given(maker.served, compute_answer(maker.served, request))


def answer_with_another_byte(maker: ReceiptMaker, request: Request, random: Random) -> Given:
    """Return an honest pass, and a byte that was not drawn from it: the draw is looked at with any op."""
    traced = compute_answer(maker.served, request)
    forward = build_forward(maker.served.model.spec, 1)
    classes = forward.program.tensors[forward.logits].columns
    byte = (traced.answer.output[0] + random.randrange(1, classes)) % classes
    answer = replace(traced.answer, output=bytes((byte,)))
    return Given(maker.served, Traced(answer, traced.passes), frozenset(range(len(forward.program.ops))))


def answer_with_another_model(maker: ReceiptMaker, request: Request, random: Random) -> Given | None:
    """Return another model's answer under the name of this one; None when all that were tried agree with it."""
    served, first_only = maker.served, random.random() < 0.5
    honest = compute_answer(served, request).answer.output
    for _ in range(TRIES_MAX):
        shift = random.randrange(1, 1 << 12)
        weights = tuple(
            np.roll(part, shift) if number == 0 or not first_only else part
            for number, part in enumerate(served.model.weights)
        )
        other = _serve(served.model.spec, weights, served.checkpoint_root)
        traced = compute_answer(other, request)
        if traced.answer.output != honest:
            return Given(other, traced, _find_false_ops(served, weights))
    return None


def _find_false_ops(served: Served, weights: tuple[I32, ...]) -> frozenset[int]:
    """Return the ops whose check reads a weight that is not the checkpoint's, itself or as it was prepared."""
    forward = build_forward(served.model.spec, 1)
    pairs = zip(forward.program.state_inputs, weights, served.model.weights, strict=True)
    false = {name for name, part, own in pairs if not np.array_equal(part, own)}
    for op in forward.fixed:
        if false & set(op.inputs):
            false |= set(op.outputs)
    return frozenset(op.index for op in forward.program.ops if false & set(op.inputs))


def _serve(spec: Spec, weights: tuple[I32, ...], root: Hash) -> Served:
    return make_served(load_model(spec, get_backend("cpu"), weights), root, compute_tensor_roots)


LIES: tuple[Callable[[ReceiptMaker, Request, Random], Given | None], ...] = (
    answer_with_another_byte,
    answer_with_another_model,
    answer_with_another_model,
)
