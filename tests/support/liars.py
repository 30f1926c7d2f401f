"""Providers that lie: one op of an answer's first pass altered, all after it what follows from that."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from chain.merkle import blake3_node, compute_path
from ml.answer import compute_given, compute_last_row
from ml.answer_checks import AnswerOpening, check_pass, verify_answer_opening
from ml.answering import Answering, Traced, start_answer
from ml.checkpoint import Checkpoint
from ml.forward import NO_DATA, Forward, get_logits, run_pass
from ml.openings import Place, TensorReader
from ml.program import Op
from ml.sampling import draw_token
from ml.segment import Runner, StepTensors, run_op
from ml.tensor_tree import IntArray
from tests.support.answers import get_checkpoint_roots, make_answer, make_server
from tests.support.models import TINY_SPECS


@dataclass(frozen=True, slots=True)
class Liar:
    """A provider that altered one op of the first pass and went on honestly from there."""

    name: str
    forward: Forward
    tensors: StepTensors
    traced: Traced

    def open(self, place: Place) -> AnswerOpening:
        """Return the opening of a place of the first pass; raises InvalidProof where there is none."""
        reader = TensorReader(self.forward.program, self.tensors, {})
        check_pass(self.forward, self.traced.answer, place, reader)
        path = compute_path(self.traced.passes, 0, blake3_node)
        opening = AnswerOpening(self.traced.passes[0], path, reader.encode())
        verify_answer_opening(
            TINY_SPECS[self.name], self.traced.answer, get_checkpoint_roots(self.name), place, opening
        )
        return opening


def run_first_pass(name: str) -> tuple[Forward, StepTensors]:
    """Return an honest first pass of the case's answer."""
    return run_pass(make_server(name).model, compute_given(TINY_SPECS[name], make_answer(name).answer, 0))


def run_from(name: str, forward: Forward, tensors: StepTensors, lie: tuple[Op, int, IntArray]) -> StepTensors:
    """Return the tensors of a pass in which an op gave something else, and all after it what follows from that."""
    op, output, altered = lie
    model = make_server(name).model
    runner = Runner(forward.program, model.backend, NO_DATA, b"", Checkpoint(model.weights, ()))
    lying = dict(tensors) | {op.outputs[output]: altered}
    for later in forward.program.ops[op.index + 1 :]:
        outputs = run_op(runner, 0, later, [lying[tensor] for tensor in later.inputs])
        lying.update(zip(later.outputs, outputs, strict=True))
    return lying


def iter_alterations(tensor: IntArray) -> Iterator[IntArray]:
    """Yield other tensors of the same range: one element, then all of it, in ways that get coarser."""
    single = tensor.copy()
    single.flat[single.size // 2] ^= 1
    yield single
    for shift in (1, 2, 5):
        yield np.roll(tensor, shift, axis=0)
        yield np.roll(tensor, shift)
    yield np.zeros_like(tensor)
    yield tensor[:, ::-1].copy()


def make_liar(name: str, op: Op, output: int) -> Liar | None:
    """Return a liar whose first byte is wrong; None when no alteration of the op changes it."""
    served, honest = make_server(name), make_answer(name).answer
    forward, tensors = run_first_pass(name)
    row = compute_last_row(TINY_SPECS[name], honest.request, 0)
    for altered in iter_alterations(tensors[op.outputs[output]]):
        lying = run_from(name, forward, tensors, (op, output, altered))
        byte = draw_token(get_logits(forward, lying)[row], honest.request.rule, 0)
        if byte != honest.output[0]:
            roots = b"".join(served.hash_tensors([lying[each] for each in forward.places]))
            return Liar(name, forward, lying, finish(start_answer(served, honest.request), byte, roots))
    return None


def finish(answering: Answering, byte: int, roots: bytes) -> Traced:
    answering.output.append(byte)
    answering.passes.append(roots)
    while not answering.is_done:
        answering.draw()
    return answering.finish()
