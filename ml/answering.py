"""Making an answer, byte by byte, and opening places of it.

The prover keeps the output roots of every pass and no tensor: a pass is a function of the weights and of what it
reads, so any of them can be had again. It knows no socket, no file and no price.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chain.errors import DecodeError, InvalidProof
from chain.merkle import blake3_node, compute_path
from chain.primitives import Hash
from ml.answer import (
    Answer,
    Request,
    compute_answer_trace_root,
    compute_given,
    compute_input,
    compute_last_row,
    find_end,
    validate_request,
)
from ml.answer_checks import AnswerOpening, check_pass, validate_answer
from ml.forward import Forward, LoadedModel, get_logits, run_pass
from ml.openings import Place, TensorReader
from ml.program import TensorId
from ml.sampling import draw_token
from ml.segment import StepTensors
from ml.spec import compute_spec_hash
from ml.tensor_tree import TensorTree
from ml.trace import RootHasher


@dataclass(frozen=True, slots=True)
class Served:
    """A model that gives answers: its weights, the root they are known by, and what hashes tensors fast."""

    model: LoadedModel
    checkpoint_root: Hash
    hash_tensors: RootHasher
    fixed_roots: dict[TensorId, Hash]
    """Roots of what depends on the weights alone, of every pass the same."""

    @property
    def spec_hash(self) -> Hash:
        """The hash of the model's spec."""
        return compute_spec_hash(self.model.spec)


@dataclass(frozen=True, slots=True)
class Traced:
    """An answer with the output roots of each of its passes."""

    answer: Answer
    passes: tuple[bytes, ...]


@dataclass(slots=True)
class Answering:
    """An answer under way: each draw adds one byte and one pass, until the request's end is reached."""

    served: Served
    request: Request
    output: bytearray = field(default_factory=bytearray)
    passes: list[bytes] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether the output has reached its end."""
        return find_end(self.request, bytes(self.output)) is not None

    def draw(self) -> int:
        """Add and return the next byte."""
        spec, number = self.served.model.spec, len(self.output)
        forward, tensors = run_pass(self.served.model, compute_input(spec, self.request, bytes(self.output)))
        self.passes.append(compute_pass_roots(self.served, forward, tensors))
        row = compute_last_row(spec, self.request, number)
        token = draw_token(get_logits(forward, tensors)[row], self.request.rule, number)
        self.output.append(token)
        return token

    def finish(self) -> Traced:
        """Return the answer, which must be done."""
        assert self.is_done
        root, served = compute_answer_trace_root(self.passes), self.served
        answer = Answer(served.spec_hash, served.checkpoint_root, self.request, bytes(self.output), root)
        return Traced(answer, tuple(self.passes))


def make_served(model: LoadedModel, checkpoint_root: Hash, hash_tensors: RootHasher) -> Served:
    """Return a model ready to answer: what its weights alone decide is hashed once."""
    names = list(model.fixed)
    roots = hash_tensors([model.fixed[name] for name in names])
    return Served(model, checkpoint_root, hash_tensors, dict(zip(names, roots, strict=True)))


def start_answer(served: Served, request: Request) -> Answering:
    """Return an answer of which nothing is drawn yet; raises DecodeError when the model cannot give one."""
    validate_request(served.model.spec, request)
    return Answering(served, request)


def compute_answer(served: Served, request: Request) -> Traced:
    """Return the whole answer; raises DecodeError when the model cannot give one."""
    answering = start_answer(served, request)
    while not answering.is_done:
        answering.draw()
    return answering.finish()


def verify_answer(served: Served, answer: Answer) -> Traced:
    """Run an answer again and return it with its passes; raises InvalidProof where a byte or a root differs."""
    validate_answer(served.model.spec, answer)
    if answer.checkpoint_root != served.checkpoint_root:
        found, expected = answer.checkpoint_root.hex(), served.checkpoint_root.hex()
        raise InvalidProof("checkpoint-root", f"found an answer of checkpoint {found}, expected {expected}")
    answering = start_answer(served, answer.request)
    for number, byte in enumerate(answer.output):
        drawn = answering.draw()
        if drawn != byte:
            raise InvalidProof("answer-draw", f"pass {number}: found {byte}, expected {drawn}")
    traced = answering.finish()
    if traced.answer.trace_root != answer.trace_root:
        found, expected = answer.trace_root.hex(), traced.answer.trace_root.hex()
        raise InvalidProof("answer-trace", f"found trace root {found}, expected {expected}")
    return traced


def iterate_bytes(answering: Answering) -> Iterator[int]:
    """Yield the bytes of an answer as they are drawn."""
    while not answering.is_done:
        yield answering.draw()


def compute_pass_roots(served: Served, forward: Forward, tensors: StepTensors) -> bytes:
    """Return the output roots of one pass in program order."""
    names = [output for op in forward.changing for output in op.outputs]
    roots = dict(zip(names, served.hash_tensors([tensors[name] for name in names]), strict=True))
    roots |= served.fixed_roots
    return b"".join(roots[output] for output in forward.places)


def open_answer(served: Served, traced: Traced, places: Sequence[Place]) -> tuple[AnswerOpening, ...]:
    """Return the openings of `places`, whose steps are passes; raises InvalidProof when one does not hold."""
    known: dict[int, tuple[Forward, StepTensors, dict[TensorId, TensorTree]]] = {}
    openings = []
    for place in places:
        if place.step >= len(traced.passes):
            raise DecodeError(f"place: found pass {place.step}, expected one below {len(traced.passes)}")
        if place.step not in known:
            given = compute_given(served.model.spec, traced.answer, place.step)
            known[place.step] = (*run_pass(served.model, given), {})
        forward, tensors, trees = known[place.step]
        reader = TensorReader(forward.program, tensors, trees)
        check_pass(forward, traced.answer, place, reader)
        path = compute_path(traced.passes, place.step, blake3_node)
        openings.append(AnswerOpening(traced.passes[place.step], path, reader.encode()))
    return tuple(openings)
