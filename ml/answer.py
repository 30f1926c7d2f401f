"""Answers: what a model made of a request, and the roots that bind every tensor it was computed through.

A request says all that an answer depends on beside the model. Every byte of the output is drawn from a pass of its own,
so the trace of an answer is the output roots of its passes one after another, and its root a Merkle root over them.
It runs no op and opens no tensor; `ml.answering` makes answers, `ml.answer_checks` verifies them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from chain.codec import U16, U32, U64, Bytes, HashField, Many, encode
from chain.errors import DecodeError, InvalidProof
from chain.hashing import tagged_hash
from chain.merkle import blake3_node, compute_root
from chain.primitives import Hash
from ml.arithmetic import I32, INT32_MAX
from ml.checkpoint import bind_checkpoint_root
from ml.checks import CheckContext
from ml.forward import NO_DATA, Forward, build_forward
from ml.provable import validate_provable
from ml.sampling import SamplingRule, fill_window, validate_prompt, validate_rule
from ml.spec import Decoder, Positions, Spec, compute_spec_hash
from ml.tensor_tree import DIGEST_BYTES

PROMPT_BYTES_MAX = 16 * 1024
OUTPUT_BYTES_MAX = 4096
STOPS_MAX = 4
STOP_BYTES_MAX = 32
PASS_ROOTS_BYTES_MAX = 44 * 1024
"""1,408 outputs of ops: those of 32 layers of a decoder, 42 each with rotary positions, and a head."""
LAYERS_MAX = 32
"""Of a decoder or a classifier that answers."""
ANGLES_MAX = 1 << 12
"""Of a table of rotary positions, context times pairs of columns: those of every named spec. Each takes an exact
series, 54 us on an old core, all of them 0.2 s."""
CLASSES_MAX = 256
"""A draw is written down as one byte."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a model. An output ends with the first of `stops`, or after `count` bytes.

    For a decoder `prompt` is the text to continue; for a classifier the inputs, int32 F16 little-endian, one draw.
    """

    prompt: Annotated[bytes, Bytes(1, PROMPT_BYTES_MAX)]
    count: U16
    temperature_f16: U32
    top_k: U16
    seed: U64
    stops: Annotated[tuple[Annotated[bytes, Bytes(1, STOP_BYTES_MAX)], ...], Many(STOPS_MAX)]

    @property
    def rule(self) -> SamplingRule:
        """Say how a token is chosen from logits."""
        return SamplingRule(self.temperature_f16, self.top_k, self.seed)


@dataclass(frozen=True, slots=True)
class Answer:
    """A model, a request, and what the one made of the other; one byte of `output` for each pass."""

    spec_hash: HashField
    checkpoint_root: HashField
    request: Request
    output: Annotated[bytes, Bytes(1, OUTPUT_BYTES_MAX)]
    trace_root: HashField


def compute_request_hash(request: Request) -> Hash:
    """Return the name of a request."""
    return tagged_hash("request", encode(request))


def compute_answer_hash(answer: Answer) -> Hash:
    """Return the name of an answer."""
    return tagged_hash("answer", encode(answer))


def validate_request(spec: Spec, request: Request) -> None:
    """Check that a model of `spec` can answer `request`; raises DecodeError."""
    validate_rule(request.rule)
    if not 1 <= request.count <= OUTPUT_BYTES_MAX:
        raise DecodeError(f"request: found a count of {request.count}, expected 1 to {OUTPUT_BYTES_MAX}")
    if isinstance(spec.model, Decoder):
        if spec.model.vocabulary > CLASSES_MAX:
            raise DecodeError(f"request: found a vocabulary of {spec.model.vocabulary}, expected one of bytes")
        validate_prompt(spec, request.prompt)
        return
    inputs, classes = spec.model.widths[0], spec.model.widths[-1]
    if classes > CLASSES_MAX:
        raise DecodeError(f"request: found {classes} classes, expected at most {CLASSES_MAX}")
    if len(request.prompt) != 4 * inputs:
        raise DecodeError(f"request: found {len(request.prompt)} bytes, expected {inputs} inputs of 4 bytes")
    if (np.frombuffer(request.prompt, "<i4") < -INT32_MAX).any():
        raise DecodeError(f"request: found an input of {-INT32_MAX - 1}, expected at most 2**31 - 1 in magnitude")
    if request.count != 1 or request.stops:
        raise DecodeError("request: found more than one draw or a stop, expected one draw of a classifier")


def find_end(request: Request, output: bytes) -> int | None:
    """Return the bytes of `output` up to the end that `request` sets; None when it would go on."""
    ends = [output.find(stop) + len(stop) for stop in request.stops if stop in output]
    ends += [request.count] if len(output) >= request.count else []
    return min(ends, default=None)


def validate_length(answer: Answer) -> None:
    """Check that the output ends where its request says, no byte early or late; raises InvalidProof."""
    end = find_end(answer.request, answer.output)
    if end != len(answer.output):
        expected = "more" if end is None else str(end)
        raise InvalidProof("answer-length", f"found {len(answer.output)} bytes of output, expected {expected}")


def validate_output(spec: Spec, answer: Answer) -> None:
    """Check that every byte of the output is one that a draw can give; raises InvalidProof."""
    classes = spec.model.vocabulary if isinstance(spec.model, Decoder) else spec.model.widths[-1]
    if max(answer.output) >= classes:
        raise InvalidProof("answer-byte", f"found byte {max(answer.output)}, expected bytes below {classes}")


def compute_given(spec: Spec, answer: Answer, number: int) -> I32:
    """Return what pass `number` of an answer reads: a window (length, 1), or an example (1, inputs) F16."""
    return compute_input(spec, answer.request, answer.output[:number])


def compute_input(spec: Spec, request: Request, output: bytes) -> I32:
    """Return what the pass after `output` reads, as `compute_given` does."""
    if not isinstance(spec.model, Decoder):
        return np.frombuffer(request.prompt, "<i4").astype(np.int32)[None, :]
    seen = (request.prompt + output)[-spec.model.context :]
    return fill_window(list(seen), spec.model.context)


def compute_last_row(spec: Spec, request: Request, number: int) -> int:
    """Return the row of the logits of pass `number` that its byte is drawn from."""
    if not isinstance(spec.model, Decoder):
        return 0
    return min(len(request.prompt) + number, spec.model.context) - 1


def get_forward(spec: Spec, request: Request, number: int) -> Forward:
    """Return the program of pass `number` of any answer to `request`."""
    return build_forward(spec, len(compute_input(spec, request, bytes(number))))


def compute_pass_roots_size(forward: Forward) -> int:
    """Return the bytes of one pass's output roots."""
    return len(forward.places) * DIGEST_BYTES


def compute_answer_trace_root(passes: Sequence[bytes]) -> Hash:
    """Return the root over the output roots of all passes, each as one leaf."""
    return compute_root(passes, blake3_node)


def validate_checkpoint_roots(spec: Spec, checkpoint_root: Hash, roots: Sequence[Hash]) -> None:
    """Check that tensor roots, of weights and then momentum by parameter, are a checkpoint's; raises InvalidProof."""
    count = len(build_forward(spec, 1).program.parameters)
    if len(roots) != 2 * count:
        raise InvalidProof("checkpoint-roots", f"found {len(roots)} roots, expected {2 * count}")
    found = bind_checkpoint_root(roots[:count], roots[count:])
    if found != checkpoint_root:
        raise InvalidProof("checkpoint-root", f"found {found.hex()}, expected {checkpoint_root.hex()}")


def validate_model(spec: Spec, spec_hash: Hash) -> None:
    """Check that `spec` is the one that is named; raises InvalidProof."""
    found = compute_spec_hash(spec)
    if found != spec_hash:
        raise InvalidProof("spec-hash", f"found {found.hex()}, expected {spec_hash.hex()}")


def validate_size(spec: Spec) -> None:
    """Check, before a program is written down, that it stays small; raises DecodeError."""
    layers = spec.model.layers if isinstance(spec.model, Decoder) else len(spec.model.widths)
    if layers > LAYERS_MAX:
        raise DecodeError(f"model: found {layers} layers, expected at most {LAYERS_MAX} of one that answers")
    if isinstance(spec.model, Decoder) and spec.model.positions == Positions.ROTARY:
        angles = spec.model.context * spec.model.head_width // 2
        if angles > ANGLES_MAX:
            raise DecodeError(f"model: found {angles} rotary angles, expected at most {ANGLES_MAX}")


def validate_answerable(spec: Spec) -> None:
    """Check that every place of a longest pass fits into an opening; raises DecodeError."""
    validate_size(spec)
    forward = build_forward(spec, spec.model.context if isinstance(spec.model, Decoder) else 1)
    assert compute_pass_roots_size(forward) <= PASS_ROOTS_BYTES_MAX
    validate_provable(make_context(forward))


def make_context(forward: Forward) -> CheckContext:
    """Return what local checks of a pass rely on: no data set and no seed."""
    return CheckContext(forward.program, NO_DATA, b"")
