"""Openings of paid answers: what a challenged provider sends, judged by what stands on the chain of its answer.

The attacker is the provider. It has the weights and knows every pass; it may open something else than it was asked for,
and it may have bound itself to an answer that the model never gave, which it then opens truthfully.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from random import Random

import numpy as np

from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import Attempt, Forgery, SameBelief, Sample, Target
from benchmarks.lab.mutations.trained import train
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from chain.codec import decode, encode
from chain.errors import InvalidProof, InvalidTransaction
from chain.hashing import tagged_hash
from chain.inference import ChallengeAnswer, OpenAnswer
from chain.ledger.learning import AnswerClaim
from chain.merkle import blake3_node, compute_path
from chain.primitives import Hash
from chain.transaction import TRANSACTION_BYTES_MAX
from ml.answer import Request, compute_answer_hash, compute_answer_trace_root, compute_given, compute_request_hash
from ml.answer_checks import AnswerOpening, check_pass
from ml.answering import Served, Traced, compute_answer, make_served, open_answer
from ml.backends import get_backend
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import Checkpoint, compute_checkpoint_root
from ml.forward import Forward, load_model, run_pass
from ml.openings import Place, TensorReader
from ml.program import Op, OpKind
from ml.segment import StepTensors
from ml.spec import encode_spec
from ml.tensor_tree import DIGEST_BYTES
from node.inference.claims import make_shown, verify_claimed_opening

REQUESTS = {
    "digits": Request(np.arange(64, dtype="<i4").tobytes(), 1, 0, 0, 0, ()),
    "decoder": Request(b"the sum of", 4, 52_428, 40, 7, ()),
}
NAME = tagged_hash("mutations.inference", b"")
SEED = 21
"""Decides which places are opened."""


@dataclass(frozen=True, slots=True)
class Scene:
    """An answer that stands on the chain, one of its places under challenge, and what honestly opens it."""

    model: str
    traced: Traced
    place: Place
    shown: OpenAnswer
    is_absent: bool = False
    """Whether the answer has no such place: then nobody looks at the opening."""

    def judge(self, data: bytes) -> None:
        """Check bytes as the opening under challenge; raises as a judge does."""
        _judge(make_claim(self.traced), self.place, data)
        opening = decode(OpenAnswer, data, TRANSACTION_BYTES_MAX).opening
        if self.is_absent and opening != self.shown.opening:
            raise SameBelief

    def show(self, shown: OpenAnswer) -> Attempt:
        """Return the attempt to show another opening of the honest claim."""
        return Attempt(encode(shown), self.judge)

    def show_claimed(self, traced: Traced, opening: AnswerOpening) -> Attempt:
        """Return the attempt to open an answer that the provider has bound itself to instead."""
        shown = _make_shown(self.model, traced, opening)
        return Attempt(encode(shown), partial(_judge, make_claim(traced), self.place), is_staged=True)

    def run_pass(self) -> tuple[Forward, StepTensors]:
        """Return the challenged pass, all its tensors included."""
        served = get_served(self.model)
        return run_pass(served.model, compute_given(served.model.spec, self.traced.answer, self.place.step))


def make_claim(traced: Traced) -> AnswerClaim:
    """Return what stands on the chain of an answer."""
    answer = traced.answer
    names = answer.spec_hash, answer.checkpoint_root, compute_request_hash(answer.request), compute_answer_hash(answer)
    return AnswerClaim(*names, answer.trace_root, len(answer.output))


def _judge(claim: AnswerClaim, place: Place, data: bytes) -> None:
    shown = decode(OpenAnswer, data, TRANSACTION_BYTES_MAX)
    if shown.inference != NAME:
        # The ledger finds the claim by this name.
        raise InvalidTransaction("inference-unknown", f"found {shown.inference.hex()}, expected {NAME.hex()}")
    challenged = ChallengeAnswer(NAME, place.step, place.op, place.row, place.column, place.depth)
    verify_claimed_opening(claim, challenged, shown)


@cache
def get_served(name: str, *, is_substitute: bool = False) -> Served:
    """Return the model called "digits" or "decoder", or another of its spec under its name."""
    runner = train(name).runner
    model = load_model(runner.program.spec, get_backend("cpu"), _get_weights(name, is_substitute).weights)
    return make_served(model, compute_checkpoint_root(runner.checkpoint), compute_tensor_roots)


def _get_weights(name: str, is_substitute: bool) -> Checkpoint:
    checkpoint = train(name).runner.checkpoint
    if not is_substitute:
        return checkpoint
    return replace(checkpoint, weights=tuple(part + 1000 * (1 + part % 7) for part in checkpoint.weights))


@cache
def _get_roots(name: str) -> tuple[Hash, ...]:
    checkpoint = train(name).runner.checkpoint
    return compute_tensor_roots([*checkpoint.weights, *checkpoint.momentum])


@cache
def _compute_answer(name: str, request: Request, *, is_substitute: bool = False) -> Traced:
    return compute_answer(get_served(name, is_substitute=is_substitute), request)


def _make_shown(name: str, traced: Traced, opening: AnswerOpening) -> OpenAnswer:
    return make_shown(NAME, encode_spec(train(name).runner.program.spec), traced.answer, _get_roots(name), opening)


def make_samples() -> tuple[Sample, ...]:
    """Return an opening of every kind of op of an answer of each model, and one that is asked for what is not there."""
    scenes = [*(scene for name in REQUESTS for scene in _iter_scenes(name)), _make_absent()]
    return tuple(
        Sample(Attempt(encode(scene.shown), scene.judge), _make_forgeries(scene, [*scenes])) for scene in scenes
    )


def _iter_scenes(name: str) -> Iterator[Scene]:
    traced, rng, firsts = _compute_answer(name, REQUESTS[name]), Random(SEED), dict[OpKind, Op]()
    for op in _get_program(name, traced, 0).program.ops:
        firsts.setdefault(op.kind, op)
    for op in firsts.values():
        place = draw_place(name, traced, op.index, rng)
        (opening,) = open_answer(get_served(name), traced, (place,))
        yield Scene(name, traced, place, _make_shown(name, traced, opening))


def _make_absent() -> Scene:
    request = replace(REQUESTS["decoder"], seed=8)
    traced = _compute_answer("decoder", request)
    place = draw_place("decoder", traced, 0, Random(SEED))
    (opening,) = open_answer(get_served("decoder"), traced, (place,))
    shown = _make_shown("decoder", traced, opening)
    return Scene("decoder", traced, replace(place, row=2**32 - 1), shown, is_absent=True)


def _get_program(name: str, traced: Traced, number: int) -> Forward:
    served = get_served(name)
    return run_pass(served.model, compute_given(served.model.spec, traced.answer, number))[0]


def draw_place(name: str, traced: Traced, op: int, rng: Random) -> Place:
    """Return a place of an op in any pass of an answer."""
    number = rng.randrange(len(traced.passes))
    program = _get_program(name, traced, number).program
    output, matmul = program.tensors[program.ops[op].outputs[0]], program.get_matmul(op)
    depth = rng.randrange(matmul.K) if matmul is not None else 0
    return Place(number, op, rng.randrange(output.rows), rng.randrange(output.columns), depth)


def _make_forgeries(scene: Scene, scenes: list[Scene]) -> Mapping[str, Forgery]:
    forgeries: dict[str, Forgery] = {
        "parts of two openings": partial(mix_parts, scene, scenes),
        "another answer": partial(open_another_answer, scene),
    }
    if scene.is_absent:
        return forgeries
    staged: dict[str, Callable[[Scene, Random], Attempt]] = {
        "another place's opening": open_elsewhere,
        "wrong output, committed": commit_to_lie,
        "a byte that was not drawn": draw_another,
        "a byte too many": add_byte,
    }
    program = _get_program(scene.model, scene.traced, 0).program
    if {*program.state_inputs}.intersection(program.ops[scene.place.op].inputs):
        staged["another model"] = substitute_model
    return forgeries | {name: partial(forge, scene) for name, forge in staged.items()}


def mix_parts(scene: Scene, scenes: list[Scene], rng: Random) -> Attempt:
    """Put a part of another opening in the place of this one's: of its action, or of the opening within."""
    other = rng.choice(scenes).shown
    inner, inner_other = (decode(AnswerOpening, shown.opening, TRANSACTION_BYTES_MAX) for shown in (scene.shown, other))
    openings = (
        replace(inner, roots=inner_other.roots),
        replace(inner, path=inner_other.path),
        replace(inner, opening=inner_other.opening),
    )
    actions = (
        replace(scene.shown, spec=other.spec),
        replace(scene.shown, answer=other.answer),
        replace(scene.shown, checkpoint_roots=other.checkpoint_roots),
        replace(scene.shown, opening=other.opening),
        *(replace(scene.shown, opening=encode(each)) for each in openings),
    )
    return scene.show(rng.choice(actions))


def open_elsewhere(scene: Scene, rng: Random) -> Attempt:
    """Open another place of this op truthfully, in this pass or another."""
    place = draw_place(scene.model, scene.traced, scene.place.op, rng)
    (opening,) = open_answer(get_served(scene.model), scene.traced, (place,))
    return scene.show(_make_shown(scene.model, scene.traced, opening))


def open_another_answer(scene: Scene, rng: Random) -> Attempt:
    """Open this place, or the first of its op, of a true answer to another request."""
    prompt = scene.traced.answer.request.prompt
    altered = bytes([prompt[0] ^ 1 << rng.randrange(4)]) + prompt[1:]
    traced = _compute_answer(scene.model, replace(scene.traced.answer.request, prompt=altered))
    place = replace(scene.place, row=0) if scene.is_absent else scene.place
    (opening,) = open_answer(get_served(scene.model), traced, (place,))
    return scene.show(_make_shown(scene.model, traced, opening))


def _open_regardless(scene: Scene, traced: Traced, forward: Forward, tensors: StepTensors) -> AnswerOpening:
    """Return the opening of the place from these tensors, true or not."""
    reader = TensorReader(forward.program, tensors, {})
    # Where it does not hold the verifier stops at the same piece: what was read is all that it would read.
    with suppress(InvalidProof):
        check_pass(forward, traced.answer, scene.place, reader)
    path = compute_path(traced.passes, scene.place.step, blake3_node)
    return AnswerOpening(traced.passes[scene.place.step], path, reader.encode())


def _rebind(traced: Traced, passes: tuple[bytes, ...], output: bytes) -> Traced:
    root = compute_answer_trace_root(passes)
    return Traced(replace(traced.answer, output=output, trace_root=root), passes)


def commit_to_lie(scene: Scene, rng: Random) -> Attempt:
    """Commit to a wrong value of the challenged output, in its range or not, and open it truthfully."""
    (forward, tensors), place, traced = scene.run_pass(), scene.place, scene.traced
    output = forward.program.ops[place.op].outputs[0]
    forged = tensors[output].copy()
    forged[place.row, place.column] ^= np.array(-1 << rng.randrange(8 * forged.itemsize)).astype(forged.dtype)
    roots, start = bytearray(traced.passes[place.step]), DIGEST_BYTES * forward.places[output]
    roots[start : start + DIGEST_BYTES] = compute_tensor_roots([forged])[0]
    passes = (*traced.passes[: place.step], bytes(roots), *traced.passes[place.step + 1 :])
    bound = _rebind(traced, passes, traced.answer.output)
    return scene.show_claimed(bound, _open_regardless(scene, bound, forward, {**tensors, output: forged}))


def draw_another(scene: Scene, rng: Random) -> Attempt:
    """Write another byte into the answer than the challenged pass draws, and open the pass truthfully."""
    output, number = bytearray(scene.traced.answer.output), scene.place.step
    output[number] ^= rng.randrange(1, 256)
    bound = _rebind(scene.traced, scene.traced.passes, bytes(output))
    return scene.show_claimed(bound, _open_regardless(scene, bound, *scene.run_pass()))


def add_byte(scene: Scene, rng: Random) -> Attempt:
    """Claim a byte more than was asked for, with a pass for it."""
    passes, output = scene.traced.passes, scene.traced.answer.output
    bound = _rebind(scene.traced, (*passes, rng.choice(passes)), output + rng.randbytes(1))
    return scene.show_claimed(bound, _open_regardless(scene, bound, *scene.run_pass()))


def substitute_model(scene: Scene, _rng: Random) -> Attempt:
    """Answer with another model under the name of the one that was asked for; open truthfully what reads its weights.

    Where an op reads none, what is shown of it is true: another place tells.
    """
    traced = _compute_answer(scene.model, scene.traced.answer.request, is_substitute=True)
    (opening,) = open_answer(get_served(scene.model, is_substitute=True), traced, (scene.place,))
    return scene.show_claimed(traced, opening)


TARGET_OF_PAID_ANSWERS = Target(
    "paid answers",
    "the opening of a challenged place of a paid answer, to every validator, who has no weights",
    make_samples,
    BYTE_MUTATORS | WIRE_MUTATORS,
)
