"""Openings checked together get the verdicts that they get one by one, and a batch says which of them is wrong.

Threat 26: no two errors cancel, in one kind of arithmetic or across kinds. The oracle is `ml.proving.verify_opening`,
with the reference's arithmetic.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidProof
from ml.backends import batched_checks as batches
from ml.backends import reference_checks
from ml.backends.batched_checks import join_batches
from ml.backends.cpu import checks
from ml.backends.cuda.checks import is_available
from ml.batching import Submission, find_faults, verify_submissions
from ml.checks import read_claims
from ml.openings import Place, TensorReader
from ml.program import Op
from ml.proving import open_place, verify_opening
from ml.segment import StepTensors
from tests.support.batches import CASES, PLACES
from tests.support.models import TINY_SPECS
from tests.support.traced import commit_to, make_segment

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = tuple(TINY_SPECS)
LAST = TINY_SPECS["mlp"].segment_steps - 1
BACKENDS = (reference_checks.verify, checks.verify)


def list_ops(name: str) -> tuple[Op, ...]:
    return make_segment(name).context.program.get_step_ops(LAST)


def make_place(name: str, op: Op, row: int = 1, column: int = 1) -> Place:
    output = make_segment(name).context.program.tensors[op.outputs[0]]
    return Place(LAST, op.index, row % output.rows, column % output.columns, depth=2)


@cache
def submit(name: str) -> tuple[Submission, ...]:
    """Return an honest opening of every op of a small model's last step."""
    segment = make_segment(name)
    places = [make_place(name, op) for op in list_ops(name)]
    return tuple(
        Submission(segment.context, segment.trace, place, open_place(segment.context, place, segment.steps[LAST]))
        for place in places
    )


@cache
def submit_forged(name: str) -> tuple[Submission, ...]:
    """Return the same openings, of segments in which the opened output of the op is off by one."""
    return tuple(forge(name, op, 1) for op in list_ops(name))


def forge(name: str, op: Op, change: int) -> Submission:
    segment, place, output = make_segment(name), make_place(name, op), op.outputs[0]
    tensors: StepTensors = dict(segment.steps[LAST])
    tensors[output] = tensors[output].copy()
    tensors[output][place.row, place.column] += change
    reader = TensorReader(segment.context.program, tensors, {})
    # A product's producers are opened too, so that its own arithmetic is all that is wrong.
    assert list(read_claims(segment.context, place, reader))
    return Submission(segment.context, commit_to(segment, LAST, tensors, output), place, reader.encode())


def find_fault(submission: Submission) -> InvalidProof | None:
    try:
        verify_opening(submission.context, submission.trace, submission.place, submission.data)
    except InvalidProof as error:
        return error
    return None


def test_openings_of_all_models_pass_together() -> None:
    together = [submission for name in NAMES for submission in submit(name)]
    for verify in BACKENDS:
        assert find_faults(together, verify) == (None,) * len(together)
        verify_submissions(together, verify)


@settings(max_examples=40)
@given(st.data())
def test_any_forged_openings_are_named_and_no_others(data: st.DataObject) -> None:
    pairs = [pair for name in NAMES for pair in zip(submit(name), submit_forged(name), strict=True)]
    picked = data.draw(st.lists(st.sampled_from(range(len(pairs))), min_size=1, max_size=25))
    flags = data.draw(st.lists(st.booleans(), min_size=len(picked), max_size=len(picked)))
    together = [pairs[i][flag] for i, flag in zip(picked, flags, strict=True)]
    expected = [find_fault(submission) for submission in together]
    assert [fault is not None for fault in expected] == flags
    for verify in BACKENDS:
        faults = find_faults(together, verify)
        assert [fault is not None for fault in faults] == flags
        assert all(str(fault).startswith("op-") for fault in faults if fault is not None)


@pytest.mark.parametrize("name", NAMES)
def test_two_errors_do_not_cancel(name: str) -> None:
    """Threat 26. One opening is off by one, another of the same op by minus one."""
    for op in list_ops(name):
        pair = forge(name, op, 1), forge(name, op, -1)
        for verify in BACKENDS:
            assert all(find_faults((*pair, submit(name)[0]), verify)[:2])
            assert find_faults((*pair, submit(name)[0]), verify)[2] is None


def test_a_batch_that_fails_names_the_place_and_what_was_found() -> None:
    name = "decoder"
    op = next(op for op in list_ops(name) if op.kind.name == "ADD")
    together = (*submit(name), forge(name, op, 5), *submit(name))
    place = make_place(name, op)
    for verify in BACKENDS:
        with pytest.raises(InvalidProof, match=r"^op-add: .*found -?\d+, expected -?\d+ at element 1$") as caught:
            verify_submissions(together, verify)
        assert str(place) in str(caught.value)


def test_a_damaged_opening_is_refused_alone() -> None:
    good = submit("mlp")
    broken = [
        Submission(good[0].context, good[0].trace, good[0].place, data)
        for data in (b"", good[0].data[:-1], good[0].data + b"\x00", good[1].data)
    ]
    faults = find_faults((good[0], *broken, good[1]), checks.verify)
    assert [fault is None for fault in faults] == [True, False, False, False, False, True]


@pytest.mark.parametrize("name", CASES)
def test_joined_batches_have_the_verdicts_of_their_parts(name: str) -> None:
    batch = CASES[name]().batch
    joined = join_batches([batch, batch, batch])
    assert len(joined.starts) == 3 * PLACES + 1
    for verify in BACKENDS:
        assert verify(joined).tolist() == [True] * 3 * PLACES
    assert all(
        np.array_equal(getattr(join_batches([batch]), field), getattr(batch, field)) for field in batch.__slots__
    )


def test_nothing_submitted_is_nothing_wrong() -> None:
    assert find_faults((), checks.verify) == ()
    assert isinstance(join_batches([CASES["equal"]().batch]), batches.EqualBatch)


SIMULATED = """
from ml.backends.cuda import checks
from ml.batching import find_faults
from tests.ml.test_batching import find_fault, submit, submit_forged
for name in ("mlp", "decoder-rotary"):
    together = [pair[i % 3 == 1] for i, pair in enumerate(zip(submit(name), submit_forged(name), strict=True))]
    found = [fault is None for fault in find_faults(together, checks.verify)]
    assert found == [find_fault(submission) is None for submission in together]
    assert found == [i % 3 != 1 for i in range(len(together))]
print("equal")
"""


def test_the_gpu_s_checks_decide_a_batch_like_the_reference() -> None:
    environment = dict(os.environ) | ({} if is_available() else {"NUMBA_ENABLE_CUDASIM": "1"})
    command = [sys.executable, "-c", SIMULATED]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.stdout.strip() == "equal", result.stderr
