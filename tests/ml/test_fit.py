"""A data set that a model cannot be trained on is refused before the first step, with what was found and expected."""

from dataclasses import replace

import numpy as np
import pytest

from chain.errors import DecodeError
from ml.dataset import Dataset, Text, load_digits
from ml.fit import validate_fit
from ml.spec import DIGITS, Decoder, Mlp, Spec
from tests.support.models import TINY_SPECS, load_text

DECODER = TINY_SPECS["decoder"]
MODEL = DECODER.model
assert isinstance(MODEL, Decoder)
TEXT = load_text()
assert isinstance(TEXT, Text)


def test_data_that_fits_passes() -> None:
    validate_fit(DIGITS, load_digits(DIGITS.heldout))
    validate_fit(DECODER, TEXT)


@pytest.mark.parametrize(
    ("spec", "dataset", "message"),
    [
        (DIGITS, TEXT, "found a text, expected labelled examples"),
        (DECODER, load_digits(360), "found labelled examples, expected a text"),
        (replace(DIGITS, model=Mlp((63, 10))), load_digits(360), "found 64 inputs an example, expected the model's 63"),
        (replace(DIGITS, model=Mlp((64, 9))), load_digits(360), "found label 9, expected labels below the model's 9"),
        (DIGITS, load_digits(0), "found 0 held-out examples, expected at least 1"),
        (replace(DECODER, model=replace(MODEL, vocabulary=32)), TEXT, "expected bytes below the vocabulary 32"),
        (DECODER, replace(TEXT, heldout=TEXT.heldout[:7]), "found 7 bytes of held-out text, expected at least 8"),
        (DECODER, replace(TEXT, stream=np.zeros(3, np.uint8)), "found 3 bytes of training text"),
    ],
)
def test_data_that_does_not_fit_is_refused(spec: Spec, dataset: Dataset, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        validate_fit(spec, dataset)
