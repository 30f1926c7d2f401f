"""The next token of a text, drawn in integers: the same checkpoint, prompt and seed give the same bytes everywhere.

Logits become an integer softmax at a temperature, cut to the likeliest few, and the generator of `ml.prf` draws from
it. It knows no characters and no file. A window shorter than the model's context is filled up behind by repeating
itself: what stands behind a position is hidden from it, but columns of values share an exponent along the window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from chain.errors import DecodeError
from ml import arithmetic
from ml.arithmetic import I32, I64, round_shift
from ml.backends import Backend
from ml.checkpoint import Checkpoint
from ml.forward import Forward, LoadedModel, get_logits, load_model, run_pass
from ml.prf import derive_key, draw_below
from ml.program import Program
from ml.segment import StepTensors
from ml.spec import Decoder, Spec

TEMPERATURE_BITS = 16
TEMPERATURE_MIN = 1 << 10
"""1/64: below it the likeliest token is all but certain; 0 says so outright."""
TEMPERATURE_MAX = 64 << TEMPERATURE_BITS
WINDOW_MIN = 16
"""Windows are as long as the next power of two, from this to the context, so that few programs are built."""
_POWER_MAX = 1 << 62


@dataclass(frozen=True, slots=True)
class SamplingRule:
    """How a token is chosen from logits."""

    temperature_f16: int
    """0 takes the likeliest token; else between 1/64 and 64."""
    top_k: int
    """How many of the likeliest tokens may be drawn; 0 for all."""
    seed: int
    """u64."""


def validate_rule(rule: SamplingRule) -> None:
    """Check the ranges of a rule; raises DecodeError."""
    temperature = rule.temperature_f16
    if temperature and not TEMPERATURE_MIN <= temperature <= TEMPERATURE_MAX:
        raise DecodeError(f"temperature: found {temperature} / 65536, expected 0 or between 1/64 and 64")
    if rule.top_k < 0:
        raise DecodeError(f"top-k: found {rule.top_k}, expected 0 (all) or more")
    if not 0 <= rule.seed < 1 << 64:
        raise DecodeError(f"seed: found {rule.seed}, expected 0 to 2**64 - 1")


def draw_token(logits: I32, rule: SamplingRule, place: int) -> int:
    """Return the token drawn from logits (vocabulary,) int32 F16 for the `place`-th draw; ties go to the lowest."""
    if rule.temperature_f16 == 0 or rule.top_k == 1:
        return int(logits.argmax())
    terms = compute_terms(logits, rule)
    # At most 2**13 terms of 2**30, so the total is below 2**43; the highest logit's term is 2**30.
    return find_token(terms, draw_below(derive_key("sample", rule.seed.to_bytes(8, "little")), place, int(terms.sum())))


def find_token(terms: I64, number: int) -> int:
    """Return the token whose share holds `number`, which is below the sum of `terms`, all laid end to end."""
    return int(np.searchsorted(terms.cumsum(), number, side="right"))


def compute_terms(logits: I32, rule: SamplingRule) -> I64:
    """Return each token's share: 2**30 for the likeliest, exp of the rest over the temperature, 0 where cut off."""
    z = logits.astype(np.int64)
    scale = (arithmetic.LOG2_E_F30 << TEMPERATURE_BITS) // rule.temperature_f16
    # A power of 2**62 / 2**22 is far beyond the 32 at which a term is 0, so the cap alters none.
    below = np.minimum(z.max() - z, _POWER_MAX // scale)
    terms = arithmetic.compute_exp2(round_shift(below * scale, 22))
    if 0 < rule.top_k < len(z):
        terms[np.argsort(-z, kind="stable")[rule.top_k :]] = 0
    return terms


def generate(
    program: Program, backend: Backend, checkpoint: Checkpoint, prompt: Sequence[int], rule: SamplingRule
) -> Iterator[int]:
    """Yield tokens that continue `prompt` without end; raises DecodeError before the first when something is amiss."""
    validate_prompt(program.spec, prompt)
    validate_rule(rule)
    model = load_model(program.spec, backend, checkpoint.weights)
    return (draw.token for draw in iterate_draws(model, prompt, rule))


def validate_prompt(spec: Spec, prompt: Sequence[int]) -> None:
    """Check that a model of `spec` can continue `prompt`; raises DecodeError."""
    if not isinstance(spec.model, Decoder):
        raise DecodeError("sample: found a classifier, expected a decoder; only text can be continued")
    if not prompt:
        raise DecodeError("sample: found an empty prompt, expected a token or more")
    vocabulary = spec.model.vocabulary
    if not 0 <= min(prompt) <= max(prompt) < vocabulary:
        raise DecodeError(f"sample: found token {max(prompt)}, expected tokens below the vocabulary {vocabulary}")


@dataclass(frozen=True, slots=True)
class Draw:
    """A token, and the pass that it was drawn from."""

    token: int
    forward: Forward
    tensors: StepTensors


def iterate_draws(model: LoadedModel, prompt: Sequence[int], rule: SamplingRule) -> Iterator[Draw]:
    """Yield draws that continue a valid prompt without end, each after a pass of its own."""
    assert isinstance(model.spec.model, Decoder)
    context, tokens = model.spec.model.context, list(prompt)
    for place in count():
        del tokens[:-context]
        forward, tensors = run_pass(model, fill_window(tokens, context))
        token = draw_token(get_logits(forward, tensors)[len(tokens) - 1], rule, place)
        yield Draw(token, forward, tensors)
        tokens.append(token)


def fill_window(tokens: Sequence[int], context: int) -> I32:
    """Return the window (length, 1) that the token after `tokens`, at most `context` of them, is drawn from."""
    length = min(context, max(WINDOW_MIN, 1 << (len(tokens) - 1).bit_length()))
    return np.resize(np.array(tokens, np.int32), (length, 1))
