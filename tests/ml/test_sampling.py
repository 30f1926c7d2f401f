"""Sampling is exact: refusals first, then the shares against a plain softmax, then windows, ties and repeatability.

The shares are compared with floats, which stand in tests alone; everything else is compared by equality.
"""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from chain.errors import DecodeError
from ml.arithmetic import I32, LOG2_E_F30
from ml.checkpoint import compute_initial_checkpoint
from ml.evaluation import compute_logits
from ml.models import build_program
from ml.sampling import SamplingRule, compute_terms, draw_token, find_token, generate
from ml.spec import Decoder, Positions
from tests.support.models import Case, make_case

RULE = SamplingRule(temperature_f16=1 << 16, top_k=0, seed=7)


def make_logits(count: int = 50, spread: int = 3) -> I32:
    values = np.random.default_rng(count).normal(0, spread, count) * 65536
    return values.astype(np.int32)


def sample(case: Case, prompt: bytes, count: int, rule: SamplingRule = RULE) -> bytes:
    tokens = generate(case.program, case.runner.backend, case.runner.checkpoint, prompt, rule)
    return bytes(islice(tokens, count))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (replace(RULE, temperature_f16=1), "temperature"),
        (replace(RULE, temperature_f16=-1), "temperature"),
        (replace(RULE, temperature_f16=(64 << 16) + 1), "temperature"),
        (replace(RULE, top_k=-1), "top-k"),
        (replace(RULE, seed=-1), "seed"),
        (replace(RULE, seed=1 << 64), "seed"),
    ],
)
def test_a_rule_out_of_range_is_refused(rule: SamplingRule, expected: str) -> None:
    with pytest.raises(DecodeError, match=expected):
        sample(make_case("decoder"), b"to be", 1, rule)


@pytest.mark.parametrize(("prompt", "expected"), [(b"", "empty prompt"), (b"caf\xc3\xa9", "token 195")])
def test_a_prompt_that_does_not_fit_is_refused(prompt: bytes, expected: str) -> None:
    with pytest.raises(DecodeError, match=expected):
        sample(make_case("decoder"), prompt, 1)


def test_a_classifier_is_refused() -> None:
    with pytest.raises(DecodeError, match="classifier"):
        sample(make_case("mlp"), b"to be", 1)


@pytest.mark.parametrize("temperature_f16", [1 << 10, 52_429, 1 << 16, 1 << 18, 64 << 16])
@pytest.mark.parametrize("spread", [1, 3, 4000])
def test_shares_are_those_of_a_softmax(temperature_f16: int, spread: int) -> None:
    logits = make_logits(spread=spread)
    terms = compute_terms(logits, replace(RULE, temperature_f16=temperature_f16))
    z = (logits - logits.max().astype(np.float64)) / temperature_f16
    np.testing.assert_allclose(terms / 2**30, np.exp(z), atol=1e-5)
    assert terms.max() == 1 << 30
    assert (terms >= 0).all()


def test_a_product_beyond_64_bits_is_no_share() -> None:
    scale = LOG2_E_F30 * 64
    far = -(-(1 << 64) // scale)
    assert compute_terms(np.array([0, -far], np.int32), replace(RULE, temperature_f16=1 << 10)).tolist() == [1 << 30, 0]


def test_a_token_without_a_share_is_never_found() -> None:
    terms = np.array([0, 2, 0, 3, 0], np.int64)
    assert [find_token(terms, number) for number in range(5)] == [1, 1, 3, 3, 3]


def test_the_lowest_and_the_highest_logit_are_far_apart_without_overflow() -> None:
    logits = np.array([-(2**31) + 1, 2**31 - 1, 0], np.int32)
    for temperature_f16 in (1 << 10, 1 << 16, 64 << 16):
        terms = compute_terms(logits, replace(RULE, temperature_f16=temperature_f16))
        assert terms.tolist() == [0, 1 << 30, 0]


def test_a_draw_takes_each_token_as_often_as_its_share() -> None:
    logits = make_logits(12)
    counts = np.bincount([draw_token(logits, RULE, place) for place in range(4000)], minlength=12)
    terms = compute_terms(logits, RULE)
    np.testing.assert_allclose(counts / 4000, terms / terms.sum(), atol=0.03)


def test_top_k_draws_from_the_likeliest_alone_and_ties_go_to_the_lowest() -> None:
    logits = make_logits(40)
    best = set(np.argsort(-logits, kind="stable")[:3].tolist())
    hot = replace(RULE, temperature_f16=64 << 16, top_k=3)
    assert {draw_token(logits, hot, place) for place in range(200)} == best
    level = np.zeros(6, np.int32)
    assert {draw_token(level, replace(RULE, top_k=2), place) for place in range(50)} == {0, 1}
    assert draw_token(level, replace(RULE, temperature_f16=0), 0) == 0
    assert draw_token(level, replace(RULE, top_k=1), 0) == 0


@pytest.mark.parametrize("name", ["decoder", "decoder-rotary", "decoder-tied", "decoder-rotary-tied"])
def test_text_repeats_for_one_seed_and_differs_for_another(name: str) -> None:
    case = make_case(name)
    assert sample(case, b"to be", 12) == sample(case, b"to be", 12)
    assert sample(case, b"to be", 12) != sample(case, b"to be", 12, replace(RULE, seed=8))


@pytest.mark.parametrize("name", ["decoder", "decoder-rotary"])
def test_a_full_window_gives_the_logits_of_the_whole_model(name: str) -> None:
    """With temperature 0 each token is the likeliest after the last `context` ones, by the model as it is scored."""
    case = make_case(name)
    model = case.spec.model
    assert isinstance(model, Decoder)
    text = bytearray(b"whether tis nobler")
    continued = sample(case, bytes(text), 5, replace(RULE, temperature_f16=0))
    program = build_program(replace(case.spec, batch=1))
    for token in continued:
        window = np.frombuffer(bytes(text[-model.context :]), np.uint8).astype(np.int32)[:, None]
        inputs = window, np.zeros_like(window)
        logits, _ = compute_logits(program, case.runner.backend, case.runner.checkpoint, case.dataset, inputs)
        assert token == logits[-1].argmax()
        text.append(token)


def test_only_the_last_context_of_a_prompt_counts() -> None:
    case = make_case("decoder")
    assert sample(case, b"nobler in the mind", 6) == sample(case, b"...  in the mind", 6)


def test_a_short_window_differs_from_the_same_window_with_other_text_before_it() -> None:
    case = make_case("decoder")
    assert sample(case, b"to", 8) != sample(case, b"or", 8)


@pytest.mark.parametrize("positions", list(Positions))
def test_a_text_shorter_than_the_context_goes_through_a_short_window(positions: Positions) -> None:
    """The window of 16 sees the same positions as the whole context of 40, so the likeliest token is the same."""
    case = make_case("decoder")
    spec = replace(case.spec, model=Decoder(128, 40, 12, 2, 2, 20, int(positions), 0), batch=1)
    program = build_program(spec)
    checkpoint = compute_initial_checkpoint(program)
    text = bytearray(b"nobler")
    for token in islice(generate(program, case.runner.backend, checkpoint, text, replace(RULE, temperature_f16=0)), 12):
        window = np.resize(np.frombuffer(bytes(text), np.uint8).astype(np.int32), (40, 1))
        logits, _ = compute_logits(program, case.runner.backend, checkpoint, case.dataset, (window, window))
        assert token == logits[len(text) - 1].argmax()
        text.append(token)
