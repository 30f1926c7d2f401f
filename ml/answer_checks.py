"""Verifying an answer without its model's weights: openings of places, held against trace root and checkpoint root.

An opening shows the elements that decide one place, those of the weights under the checkpoint's root, and the logits
that the pass's byte was drawn from. It is a filter; what finds any lie is to run the answer again (`ml.answering`).
It runs no pass and knows no chain and no price.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from chain.codec import Bytes, HashField, Many
from chain.errors import DecodeError, InvalidProof
from chain.hashing import tagged_hash
from chain.merkle import blake3_node, verify_path
from chain.primitives import Hash
from ml.answer import (
    PASS_ROOTS_BYTES_MAX,
    Answer,
    compute_answer_hash,
    compute_given,
    compute_last_row,
    compute_pass_roots_size,
    get_forward,
    make_context,
    validate_length,
    validate_model,
    validate_output,
    validate_request,
)
from ml.checks import check_place
from ml.forward import Forward
from ml.openings import OPENING_BYTES_MAX, OpeningReader, Place, Reader, decode_opening, draw_place
from ml.prf import derive_key, draw_below
from ml.program import Program, TensorId
from ml.sampling import draw_token
from ml.segment import as_i32
from ml.spec import Spec
from ml.tensor_tree import DIGEST_BYTES, compute_tensor_root

PATH_LENGTH_MAX = 12
"""An answer has at most 4,096 passes."""
_PASS_ELEMENT = 4
"""Elements 0 to 3 of a place's key draw the place within its pass."""


@dataclass(frozen=True, slots=True)
class AnswerOpening:
    """One place of an answer: its pass's output roots, their path to the trace root, and what the check reads."""

    roots: Annotated[bytes, Bytes(DIGEST_BYTES, PASS_ROOTS_BYTES_MAX)]
    path: Annotated[tuple[HashField, ...], Many(PATH_LENGTH_MAX)]
    opening: Annotated[bytes, Bytes(1, OPENING_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class PassRoots:
    """The roots of one pass: of what it reads, of the weights by parameter, and of every op's outputs."""

    forward: Forward
    given: Hash
    checkpoint_roots: Sequence[Hash]
    output_roots: bytes

    @property
    def program(self) -> Program:
        """The program of the pass."""
        return self.forward.program

    def get_root(self, step: int, tensor: TensorId) -> Hash:
        """Return the root of a tensor of the pass; `step` is the pass's number."""
        assert step >= 0
        if tensor == self.forward.given:
            return self.given
        place = self.forward.places.get(tensor)
        if place is None:
            return self.checkpoint_roots[self.program.state_inputs.index(tensor)]
        return Hash(self.output_roots[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES])


def compute_answer_challenge(answer: Answer, beacon: bytes) -> Hash:
    """Return the hash that draws the places of an answer; sound if `beacon` was unknown when it was given."""
    return tagged_hash("answer.challenge", compute_answer_hash(answer), beacon)


def draw_answer_places(spec: Spec, answer: Answer, challenge: Hash, count: int) -> tuple[Place, ...]:
    """Return the places that `challenge` draws; a place's step is its pass, uniform over all of them."""
    return tuple(_draw_answer_place(spec, answer, challenge, i) for i in range(count))


def _draw_answer_place(spec: Spec, answer: Answer, challenge: Hash, index: int) -> Place:
    key = derive_key("answer.place", challenge, index.to_bytes(4, "little"))
    number = draw_below(key, _PASS_ELEMENT, len(answer.output))
    place = draw_place(get_forward(spec, answer.request, number).program, key, index)
    return Place(number, place.op, place.row, place.column, place.depth)


def validate_answer_place(spec: Spec, answer: Answer, place: Place) -> None:
    """Check that there is such a place in the answer; raises DecodeError."""
    if not 0 <= place.step < len(answer.output):
        raise DecodeError(f"place: found pass {place.step}, expected one below {len(answer.output)}")
    program = get_forward(spec, answer.request, place.step).program
    if not 0 <= place.op < len(program.ops):
        raise DecodeError(f"place: found op {place.op}, expected one below {len(program.ops)}")
    output, matmul = program.tensors[program.ops[place.op].outputs[0]], program.get_matmul(place.op)
    bounds = (output.rows, output.columns, 1 if matmul is None else matmul.K)
    for name, found, bound in zip(
        ("row", "column", "depth"), (place.row, place.column, place.depth), bounds, strict=True
    ):
        if not 0 <= found < bound:
            raise DecodeError(f"place: found {name} {found}, expected one below {bound}")


def check_pass(forward: Forward, answer: Answer, place: Place, reader: Reader) -> None:
    """Check the op at `place`, and that the pass's byte is drawn from its logits; raises InvalidProof."""
    check_place(make_context(forward), place, reader)
    row = compute_last_row(forward.program.spec, answer.request, place.step)
    logits = as_i32(reader.read(forward.logits, row, 0, forward.program.tensors[forward.logits].columns))
    drawn = draw_token(logits, answer.request.rule, place.step)
    if drawn != answer.output[place.step]:
        raise InvalidProof("answer-draw", f"pass {place.step}: found {answer.output[place.step]}, expected {drawn}")


def verify_answer_opening(
    spec: Spec, answer: Answer, checkpoint_roots: Sequence[Hash], place: Place, opening: AnswerOpening
) -> None:
    """Check that `opening` shows `place`, which the answer has, and that it holds; raises InvalidProof.

    `checkpoint_roots` must be those of the answer's checkpoint (`ml.answer.validate_checkpoint_roots`).
    """
    reader = make_opening_reader(spec, answer, checkpoint_roots, place.step, opening)
    check_pass(get_forward(spec, answer.request, place.step), answer, place, reader)
    reader.validate_end()


def make_opening_reader(
    spec: Spec, answer: Answer, checkpoint_roots: Sequence[Hash], number: int, opening: AnswerOpening
) -> OpeningReader:
    """Return what reads an opening of pass `number` under the answer's trace root; raises InvalidProof."""
    forward = get_forward(spec, answer.request, number)
    size_bytes = compute_pass_roots_size(forward)
    if len(opening.roots) != size_bytes:
        raise InvalidProof("pass-size", f"found {len(opening.roots)} bytes of roots, expected {size_bytes}")
    verify_path(answer.trace_root, opening.roots, number, len(answer.output), opening.path, blake3_node)
    given = compute_tensor_root(compute_given(spec, answer, number))
    roots = PassRoots(forward, given, checkpoint_roots, opening.roots)
    return OpeningReader(roots, number, decode_opening(opening.opening))


def validate_answer(spec: Spec, answer: Answer) -> None:
    """Check what an answer says of itself: its model, its request, its length and its bytes; raises InvalidProof."""
    validate_model(spec, answer.spec_hash)
    try:
        validate_request(spec, answer.request)
    except DecodeError as error:
        raise InvalidProof("answer-request", str(error)) from None
    validate_length(answer)
    # Of such a byte there is no logit: the place that shows the lie would not exist, and need not be opened.
    validate_output(spec, answer)
