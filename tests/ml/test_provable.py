"""The size of openings, counted from shapes, bounds every honest opening; tasks beyond the limits are refused."""

from dataclasses import replace

import numpy as np
import pytest

from chain.errors import DecodeError
from chain.genesis import TaskSpec
from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.checks import CheckContext
from ml.dataset import load_digits
from ml.models import build_program
from ml.openings import decode_opening
from ml.provable import compute_opening_max, validate_provable
from ml.proving import prove_segment
from ml.spec import DIGITS, Mlp, Spec, encode_spec
from node.learning import load_task
from tests.support.models import TINY_SPECS, make_case


def make_context(spec: Spec) -> CheckContext:
    data = load_digits(spec.heldout)
    assert isinstance(spec.model, Mlp)
    wide = np.zeros((len(data.x), spec.model.widths[0]), np.int32)
    return CheckContext(build_program(spec), replace(data, x=wide), bytes(32))


@pytest.mark.parametrize("name", TINY_SPECS)
def test_no_honest_opening_is_larger_than_what_is_counted(name: str) -> None:
    case = make_case(name)
    size_bytes, pieces = compute_opening_max(CheckContext(case.program, case.dataset, case.runner.segment_seed))
    found = [prove_segment(case.runner, tagged_hash("test", bytes([draw])), 16) for draw in range(6)]
    openings = [opening for each in found for opening in each]
    assert max(map(len, openings)) <= size_bytes <= max(map(len, openings)) * 3 // 2
    assert max(len(decode_opening(opening).pieces) for opening in openings) <= pieces


@pytest.mark.parametrize("widths", [(64, 4096, 10), (8192, 16, 10)])
def test_a_model_whose_openings_are_too_large_is_refused(widths: tuple[int, ...]) -> None:
    validate_provable(make_context(DIGITS))
    with pytest.raises(DecodeError, match="found openings of"):
        validate_provable(make_context(replace(DIGITS, model=Mlp(widths))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"segment_steps": 640}, "found roots of 1167552 bytes"), ({"model": Mlp((64, 4096, 10))}, "found openings of")],
)
def test_a_task_that_could_never_settle_is_refused(changes: dict[str, object], message: str) -> None:
    spec = replace(DIGITS, **changes)  # type: ignore[arg-type]
    task = TaskSpec("digits", encode_spec(spec), load_digits(spec.heldout).root, Hash(bytes(32)))
    with pytest.raises(DecodeError, match=message):
        load_task(task)
