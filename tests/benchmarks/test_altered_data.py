"""The figures of near-duplicates: the closed form is the rule's, alterations do what they say, the page tells all."""

import numpy as np
import pytest

from benchmarks.altered_data import ALTERATIONS, cut_records, read_records
from benchmarks.near_duplicates import (
    RESULTS,
    compute_agreement,
    compute_meeting,
    compute_similarity,
    judge,
    measure_curve,
    measure_halves,
)
from ml.dataset import ExamplesBlob, decode_blob
from ml.sketch import compute_sketch

SEEN = {
    "one bit changed",
    "1 % of records replaced",
    "10 % of records replaced",
    "25 % of records replaced",
    "records reordered",
    "a tenth of records left out",
    "half as many records added",
    "one byte in 64 changed",
}
UNSEEN = {"every byte encoded otherwise", "a byte in each band's rarest minimum changed"}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_alterations_are_other_data_sets_and_seen_as_the_page_says(name: str) -> None:
    own, fresh = cut_records(read_records("digits"))
    blob = own.encode()
    verdicts = set()
    for trial in range(3):
        copy = ALTERATIONS[name](own, fresh, np.random.default_rng(trial))
        assert copy != blob
        assert isinstance(decode_blob(copy), ExamplesBlob)
        verdicts.add(judge(compute_sketch(blob), compute_sketch(copy))[1])
    if name in SEEN | UNSEEN:
        assert verdicts == {name in SEEN}
    assert f"| {name} |" in RESULTS.read_text(encoding="utf-8")


def test_what_aims_at_the_rule_changes_next_to_nothing() -> None:
    own, fresh = cut_records(read_records("digits"))
    blob = own.encode()
    copy = ALTERATIONS["a byte in each band's rarest minimum changed"](own, fresh, np.random.default_rng(0))
    assert compute_similarity(blob, copy) > 0.98


def test_the_closed_form_is_that_of_bands_and_minima() -> None:
    assert (compute_meeting(0.0), compute_meeting(1.0), compute_agreement(1.0)) == (0.0, 1.0, 1.0)
    assert compute_meeting(0.5) == pytest.approx(1 - 0.875**32)
    assert compute_agreement(0.5) == pytest.approx(0.5, abs=0.05)
    row = next(row for row in measure_curve(60) if row[0] == "0.30")
    assert abs(float(row[1]) - float(row[2])) < 0.25


def test_halves_of_one_kind_are_not_taken_for_copies() -> None:
    pairs, _, most, _, alike, seen = measure_halves(read_records("digits"), 6)
    assert (pairs, seen) == ("6", "0")
    assert float(most) < 0.2
    assert int(alike) < 30
