"""Answers: what is refused first, then openings of every kind of op, forged in many ways, then running again."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidProof
from chain.primitives import Hash
from ml.answer import (
    Answer,
    Request,
    compute_answer_trace_root,
    compute_given,
    find_end,
    get_forward,
    validate_answerable,
    validate_checkpoint_roots,
    validate_request,
)
from ml.answer_checks import (
    AnswerOpening,
    check_pass,
    compute_answer_challenge,
    draw_answer_places,
    validate_answer,
    validate_answer_place,
    verify_answer_opening,
)
from ml.answering import (
    Traced,
    compute_answer,
    compute_pass_roots,
    iterate_bytes,
    open_answer,
    start_answer,
    verify_answer,
)
from ml.checkpoint import Checkpoint
from ml.forward import Forward, run_pass
from ml.openings import Place, TensorReader
from ml.sampling import generate
from ml.segment import StepTensors
from ml.spec import Decoder, Mlp
from tests.support.answers import (
    IMAGE,
    TEXT,
    get_checkpoint_roots,
    get_request,
    make_answer,
    make_server,
    serve_checkpoint,
)
from tests.support.models import TINY_SPECS, make_case

Change = Callable[[Answer], Answer]
NAMES = list(TINY_SPECS)
BEACON = bytes(32)


def verify(name: str, answer: Answer, place: Place, opening: AnswerOpening) -> None:
    verify_answer_opening(TINY_SPECS[name], answer, get_checkpoint_roots(name), place, opening)


def list_places(name: str, number: int) -> list[Place]:
    """Return a place of every op of one pass, in the middle of its output."""
    program = get_forward(TINY_SPECS[name], get_request(name), number).program
    places = []
    for op in program.ops:
        output, matmul = program.tensors[op.outputs[0]], program.get_matmul(op.index)
        depth = matmul.K // 2 if matmul else 0
        places.append(Place(number, op.index, output.rows // 2, output.columns // 2, depth))
    return places


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (replace(TEXT, count=0), "count"),
        (replace(TEXT, count=4097), "count"),
        (replace(TEXT, temperature_f16=1), "temperature"),
        (replace(TEXT, prompt=b""), "empty prompt"),
        (replace(TEXT, prompt=b"\xff"), "token 255"),
        (IMAGE, "token"),
    ],
)
def test_a_request_that_a_decoder_cannot_answer_is_refused(request_: Request, expected: str) -> None:
    if request_ is IMAGE:
        request_ = replace(IMAGE, prompt=b"\xff" * 256)
    with pytest.raises(DecodeError, match=expected):
        compute_answer(make_server("decoder"), request_)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (TEXT, "64 inputs"),
        (replace(IMAGE, count=2), "one draw"),
        (replace(IMAGE, stops=(b"a",)), "one draw"),
        (replace(IMAGE, prompt=np.full(64, -(1 << 31), "<i4").tobytes()), "magnitude"),
    ],
)
def test_a_request_that_a_classifier_cannot_answer_is_refused(request_: Request, expected: str) -> None:
    with pytest.raises(DecodeError, match=expected):
        compute_answer(make_server("mlp"), request_)


def test_tokens_and_classes_beyond_a_byte_are_refused() -> None:
    spec = TINY_SPECS["decoder"]
    assert isinstance(spec.model, Decoder)
    with pytest.raises(DecodeError, match="vocabulary of 257"):
        validate_request(replace(spec, model=replace(spec.model, vocabulary=257)), TEXT)
    with pytest.raises(DecodeError, match="257 classes"):
        validate_request(replace(TINY_SPECS["mlp"], model=Mlp((64, 257))), IMAGE)


def test_an_end_is_the_earliest() -> None:
    request = replace(TEXT, stops=(b"bc", b"cd"))
    assert [find_end(request, output) for output in (b"a", b"ab", b"abc", b"xcd", b"vwxyz")] == [None, None, 3, 3, 5]


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_what_sampling_gives(name: str) -> None:
    traced = make_answer(name)
    validate_answer(TINY_SPECS[name], traced.answer)
    assert len(traced.passes) == len(traced.answer.output)
    if name != "mlp":
        case, request = make_case(name), get_request(name)
        tokens = generate(case.program, case.runner.backend, case.runner.checkpoint, request.prompt, request.rule)
        assert traced.answer.output == bytes(next(tokens) for _ in range(request.count))


@pytest.mark.parametrize("name", NAMES)
def test_backends_give_one_answer(name: str) -> None:
    assert compute_answer(make_server(name, "reference"), get_request(name)) == make_answer(name)


def test_a_stop_ends_an_answer() -> None:
    whole = make_answer("decoder").answer.output
    stop = whole[1:3]
    request = replace(TEXT, stops=(stop,))
    found = compute_answer(make_server("decoder"), request).answer
    assert found.output == whole[: whole.find(stop) + 2]
    assert bytes(iterate_bytes(start_answer(make_server("decoder"), request))) == found.output


@pytest.mark.parametrize("name", NAMES)
def test_every_op_of_a_pass_opens(name: str) -> None:
    traced = make_answer(name)
    for number in sorted({0, len(traced.passes) - 1}):
        places = list_places(name, number)
        for place, opening in zip(places, open_answer(make_server(name), traced, places), strict=True):
            validate_answer_place(TINY_SPECS[name], traced.answer, place)
            verify(name, traced.answer, place, decode(AnswerOpening, encode(opening), 1 << 20))


@pytest.mark.parametrize("name", NAMES)
def test_drawn_places_open(name: str) -> None:
    traced, spec = make_answer(name), TINY_SPECS[name]
    challenge = compute_answer_challenge(traced.answer, BEACON)
    places = draw_answer_places(spec, traced.answer, challenge, 24)
    assert places != draw_answer_places(spec, traced.answer, compute_answer_challenge(traced.answer, b"\1"), 24)
    for place, opening in zip(places, open_answer(make_server(name), traced, places), strict=True):
        validate_answer_place(spec, traced.answer, place)
        verify(name, traced.answer, place, opening)


def test_drawn_places_reach_every_pass_and_op() -> None:
    traced, spec = make_answer("decoder"), TINY_SPECS["decoder"]
    places = draw_answer_places(spec, traced.answer, compute_answer_challenge(traced.answer, BEACON), 4000)
    assert {place.step for place in places} == set(range(5))
    assert {place.op for place in places} == {op.index for op in get_forward(spec, TEXT, 0).program.ops}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"step": 5}, "pass"),
        ({"op": 999}, "op"),
        ({"row": 999}, "row"),
        ({"column": 999}, "column"),
        ({"depth": 999}, "depth"),
    ],
)
def test_a_place_outside_an_answer_is_refused(change: dict[str, int], expected: str) -> None:
    place = replace(list_places("decoder", 0)[0], **change)
    with pytest.raises(DecodeError, match=f"found {expected}"):
        validate_answer_place(TINY_SPECS["decoder"], make_answer("decoder").answer, place)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda a: replace(a, output=a.output[:-1]), "answer-length"),
        (lambda a: replace(a, output=a.output + b"a"), "answer-length"),
        (lambda a: replace(a, output=a.output[:-1] + b"\x80"), "answer-byte"),
        (lambda a: replace(a, request=replace(a.request, count=4)), "answer-length"),
        (lambda a: replace(a, spec_hash=Hash(bytes(32))), "spec-hash"),
        (lambda a: replace(a, request=replace(a.request, prompt=b"\xff")), "answer-request"),
    ],
)
def test_an_answer_that_contradicts_itself_is_refused(change: Change, rule: str) -> None:
    answer = change(make_answer("decoder").answer)
    with pytest.raises(InvalidProof) as error:
        validate_answer(TINY_SPECS["decoder"], answer)
    assert error.value.rule == rule
    with pytest.raises(InvalidProof):
        verify_answer(make_server("decoder"), answer)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda a: replace(a, output=bytes([a.output[0] ^ 1]) + a.output[1:]), "answer-draw"),
        (lambda a: replace(a, request=replace(a.request, seed=8)), "answer-draw"),
        (lambda a: replace(a, trace_root=Hash(bytes(32))), "answer-trace"),
        (lambda a: replace(a, checkpoint_root=Hash(bytes(32))), "checkpoint-root"),
    ],
)
def test_running_again_finds_another_answer(change: Change, rule: str) -> None:
    answer = make_answer("decoder").answer
    assert verify_answer(make_server("decoder"), answer) == make_answer("decoder")
    with pytest.raises(InvalidProof) as error:
        verify_answer(make_server("decoder"), change(answer))
    assert error.value.rule == rule


def test_an_opening_serves_no_other_answer_pass_or_place() -> None:
    traced, places = make_answer("decoder"), list_places("decoder", 1)
    opening, other = open_answer(make_server("decoder"), traced, (places[3], replace(places[3], step=2)))
    verify("decoder", traced.answer, places[3], opening)
    other_output = traced.answer.output[:1] + b"\1" + traced.answer.output[2:]
    cases = [
        (traced.answer, places[3], other, "merkle-root"),
        (traced.answer, places[3], replace(opening, path=opening.path[:-1]), "merkle-length"),
        (traced.answer, places[3], replace(opening, roots=opening.roots[:-32]), "pass-size"),
        (traced.answer, places[3], replace(opening, roots=opening.roots[32:] + opening.roots[:32]), "merkle-root"),
        (traced.answer, replace(places[3], step=2), opening, "merkle-root"),
        (replace(traced.answer, output=other_output), places[3], opening, "answer-draw"),
    ]
    for answer, place, shown, rule in cases:
        with pytest.raises(InvalidProof) as error:
            verify("decoder", answer, place, shown)
        assert error.value.rule == rule


def test_the_prompt_is_what_the_first_op_read() -> None:
    traced = make_answer("decoder")
    forward = get_forward(TINY_SPECS["decoder"], TEXT, 0)
    embed = next(op for op in forward.program.ops if forward.given in op.inputs)
    place = Place(0, embed.index, 3, 0, 0)
    opening = open_answer(make_server("decoder"), traced, (place,))[0]
    other = replace(traced.answer, request=replace(TEXT, prompt=b"to be on"))
    verify("decoder", traced.answer, place, opening)
    with pytest.raises(InvalidProof, match="tensor-root"):
        verify("decoder", other, place, opening)


def test_weights_open_under_the_checkpoint_root() -> None:
    traced = make_answer("decoder")
    roots = get_checkpoint_roots("decoder")
    validate_checkpoint_roots(TINY_SPECS["decoder"], traced.answer.checkpoint_root, roots)
    with pytest.raises(InvalidProof, match="checkpoint-roots"):
        validate_checkpoint_roots(TINY_SPECS["decoder"], traced.answer.checkpoint_root, roots[1:])
    with pytest.raises(InvalidProof, match="checkpoint-root:"):
        validate_checkpoint_roots(TINY_SPECS["decoder"], traced.answer.checkpoint_root, roots[1:] + roots[:1])


def substitute(name: str) -> Traced:
    """Return an answer that another model gave under the name of the case's checkpoint."""
    checkpoint = make_case(name).runner.checkpoint
    weights = tuple(part + 1000 * (1 + part % 7) for part in checkpoint.weights)
    other = serve_checkpoint(name, Checkpoint(weights, checkpoint.momentum))
    traced = compute_answer(other, get_request(name))
    return Traced(replace(traced.answer, checkpoint_root=make_server(name).checkpoint_root), traced.passes)


@pytest.mark.parametrize("name", NAMES)
def test_a_substituted_model_cannot_open_what_reads_its_weights(name: str) -> None:
    checkpoint = make_case(name).runner.checkpoint
    weights = tuple(part + 1000 * (1 + part % 7) for part in checkpoint.weights)
    other = serve_checkpoint(name, Checkpoint(weights, checkpoint.momentum))
    traced = substitute(name)
    program = get_forward(TINY_SPECS[name], get_request(name), 0).program
    state = set(program.state_inputs)
    reads = [place for place in list_places(name, 0) if state.intersection(program.ops[place.op].inputs)]
    assert len(reads) >= len(program.parameters) - 1
    for place, opening in zip(reads, open_answer(other, traced, reads), strict=True):
        with pytest.raises(InvalidProof, match="tensor-root"):
            verify(name, traced.answer, place, opening)
    with pytest.raises(InvalidProof):
        verify_answer(make_server(name), traced.answer)


def run_first_pass(name: str) -> tuple[Forward, StepTensors]:
    return run_pass(make_server(name).model, compute_given(TINY_SPECS[name], make_answer(name).answer, 0))


@pytest.mark.parametrize("name", NAMES)
def test_a_lie_in_any_op_is_found_at_its_place(name: str) -> None:
    """Whoever alters what an op gave cannot open the place where he did."""
    answer = make_answer(name).answer
    forward, tensors = run_first_pass(name)
    for place in list_places(name, 0):
        output = forward.program.ops[place.op].outputs[0]
        altered = tensors[output].copy()
        altered[place.row, place.column] += 1 if altered[place.row, place.column] < 63 else -1
        check_pass(forward, answer, place, TensorReader(forward.program, tensors, {}))
        with pytest.raises(InvalidProof):
            check_pass(forward, answer, place, TensorReader(forward.program, tensors | {output: altered}, {}))


def test_roots_of_what_weights_decide_are_those_of_the_pass() -> None:
    """Computed once for all passes, they must not be another model's."""
    server = make_server("decoder")
    forward, tensors = run_first_pass("decoder")
    outputs = [tensors[output] for op in forward.program.ops for output in op.outputs]
    assert compute_pass_roots(server, forward, tensors) == b"".join(server.hash_tensors(outputs))
    assert make_answer("decoder").passes[0] == compute_pass_roots(server, forward, tensors)
    assert compute_answer_trace_root(make_answer("decoder").passes) == make_answer("decoder").answer.trace_root


@pytest.mark.parametrize("name", NAMES)
def test_tiny_models_can_be_proven(name: str) -> None:
    validate_answerable(TINY_SPECS[name])


def test_a_model_too_deep_or_wide_is_refused() -> None:
    spec = TINY_SPECS["decoder"]
    assert isinstance(spec.model, Decoder)
    for name in ("decoder", "decoder-rotary"):
        deep = TINY_SPECS[name].model
        assert isinstance(deep, Decoder)
        validate_answerable(replace(spec, model=replace(deep, layers=32)))
    with pytest.raises(DecodeError, match="33 layers"):
        validate_answerable(replace(spec, model=replace(spec.model, layers=33)))
    with pytest.raises(DecodeError, match="openings of"):
        validate_answerable(replace(TINY_SPECS["mlp"], model=Mlp((60_000, 10))))


def test_tables_of_a_stranger_are_bounded() -> None:
    spec = TINY_SPECS["decoder-rotary"]
    assert isinstance(spec.model, Decoder)
    with pytest.raises(DecodeError, match="66048 rotary angles"):
        validate_answerable(replace(spec, model=replace(spec.model, context=516, width=256, heads=1)))
