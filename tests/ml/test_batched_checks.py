"""Batched checks: honest places pass, an altered claim fails at its place alone, and all three backends agree.

The oracle is `ml.backends.reference_checks`; the GPU's checks run in Numba's simulator where there is no GPU, in a
process of their own.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml.backends import batched_checks as batches
from ml.backends import reference_checks
from ml.backends.cpu import checks
from ml.backends.cuda import checks as gpu_checks
from ml.program import OpKind
from tests.support.batches import CASES, PLACES, count_differences, list_altered, make_linear, make_softmax_backward

HAS_GPU = gpu_checks.is_available()
ROOT = Path(__file__).resolve().parent.parent.parent
BACKENDS = (reference_checks.verify, checks.verify)


def run_python(*arguments: str, simulate: bool) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in sorted(os.environ) if name != "NUMBA_ENABLE_CUDASIM"}
    environment |= {"NUMBA_ENABLE_CUDASIM": "1"} if simulate else {}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("name", CASES)
def test_honest_places_pass_and_each_altered_claim_fails_alone(name: str) -> None:
    case = CASES[name]()
    for verify in BACKENDS:
        assert verify(case.batch).tolist() == [True] * PLACES
    for place, altered in list_altered(case):
        expected = [other != place for other in range(PLACES)]
        for verify in BACKENDS:
            assert verify(altered).tolist() == expected


@pytest.mark.parametrize("name", CASES)
def test_wild_values_get_the_reference_s_verdicts(name: str) -> None:
    assert count_differences(checks.verify, name) == 0


def test_the_gpu_s_checks_get_the_reference_s_verdicts() -> None:
    result = run_python("-m", "tests.support.batches", simulate=not HAS_GPU)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(": 0 differences") == len(CASES)


@pytest.mark.skipif(HAS_GPU, reason="a GPU is here")
def test_a_machine_without_a_gpu_is_told_what_to_do() -> None:
    script = "from ml.backends.cuda import checks; from tests.support.batches import CASES; "
    result = run_python("-c", script + "checks.verify(CASES['equal']().batch)", simulate=False)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ml.backends.cuda.checks.CheckDeviceMissing: found no CUDA device for Numba, expected one")


def test_exponents_and_probabilities_out_of_range_are_false() -> None:
    linear, softmax = make_linear().batch, make_softmax_backward().batch
    assert isinstance(linear, batches.LinearBatch)
    assert isinstance(softmax, batches.SoftmaxBackwardBatch)
    for value in (-1, 26, 2**40):
        for column in (0, 1):
            settings = linear.settings.copy()
            settings[:, column] = value
            for verify in BACKENDS:
                assert not verify(replace(linear, settings=settings)).any()
    for value in (-1, 2**24 + 1):
        p = np.full_like(softmax.probabilities, value)
        for verify in BACKENDS:
            assert not verify(replace(softmax, probabilities=p)).any()


def test_an_empty_batch_has_no_verdicts() -> None:
    nothing = np.zeros(0, np.int32)
    for verify in BACKENDS:
        assert verify(batches.EqualBatch(nothing, nothing, np.zeros(1, np.int64))).tolist() == []


def test_every_kind_of_op_has_a_kind_of_batch() -> None:
    moved = {OpKind.BATCH, OpKind.WINDOWS, OpKind.TRANSPOSE, OpKind.SPLIT_HEADS, OpKind.MERGE_HEADS}
    computed = {
        OpKind.QUANTISE_ROWS, OpKind.QUANTISE_TRANSPOSED, OpKind.DELTA, OpKind.LINEAR, OpKind.SOFTMAX_XENT_GRADIENT,
        OpKind.ADAM, OpKind.EMBED, OpKind.EMBEDDING_GRADIENT, OpKind.POSITION_GRADIENT, OpKind.NORMALISE,
        OpKind.NORMALISE_BACKWARD, OpKind.ROTATE, OpKind.CAUSAL_SOFTMAX, OpKind.CAUSAL_SOFTMAX_BACKWARD, OpKind.RELU,
        OpKind.RELU_BACKWARD, OpKind.RELU_SQUARED, OpKind.RELU_SQUARED_BACKWARD, OpKind.ADD,
    }  # fmt: skip
    assert moved | computed == set(OpKind)
