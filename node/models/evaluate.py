"""What a checkpoint is worth, as exact numbers and as the decimals that people compare.

The numbers are those of `ml.evaluation`, integers; the decimals are rounded from them once. It loads no data.
"""

from dataclasses import dataclass

from ml.arithmetic import ACTIVATION_BITS
from ml.backends import Backend
from ml.dataset import Dataset
from ml.evaluation import HELDOUT_TOKENS, Evaluation, compute_evaluation
from ml.models import build_program
from ml.spec import Decoder, Spec
from node.models.rates import format_ratio
from node.models.state_file import ModelState

DIGITS = 6


@dataclass(frozen=True, slots=True)
class Score:
    """An evaluation with its decimals, rounded half up from the integers."""

    loss_f16: int
    correct: int
    count: int
    bits: str
    """Mean loss a byte or an example, in bits."""
    accuracy: str
    per: str
    """byte or example."""


def evaluate(state: ModelState, backend: Backend, dataset: Dataset, tokens: int = HELDOUT_TOKENS) -> Score:
    """Return the score on the held-out part of a data set that fits: all examples, or the first `tokens`."""
    found = compute_evaluation(build_program(state.spec), backend, state.checkpoint, dataset, tokens)
    return make_score(state.spec, found)


def make_score(spec: Spec, found: Evaluation) -> Score:
    """Return the decimals of an evaluation, exact but for their last digit."""
    bits = format_ratio(found.loss_f16, found.count << ACTIVATION_BITS, DIGITS)
    per = "byte" if isinstance(spec.model, Decoder) else "example"
    accuracy = format_ratio(found.correct, found.count, DIGITS)
    return Score(found.loss_f16, found.correct, found.count, bits, accuracy, per)
