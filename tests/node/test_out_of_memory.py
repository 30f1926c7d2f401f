"""What does not fit in memory ends in one typed error, wherever the memory is; other errors stay what they are."""

import pytest
import torch

from node.backends import refuse_what_does_not_fit
from node.exit_codes import ExitCode
from node.models.errors import ModelError
from tests.support.cuda import run_python


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_what_does_not_fit_is_named(error: Exception) -> None:
    with pytest.raises(ModelError, match="memory: the model takes more"), refuse_what_does_not_fit("the model"):
        raise error


def test_an_array_too_large_for_this_machine() -> None:
    with pytest.raises(ModelError, match="memory"), refuse_what_does_not_fit("the model"):
        bytearray(1 << 62)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="a bug"), refuse_what_does_not_fit("the model"):
        raise RuntimeError("a bug")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_miner_says_that_there_is_no_gpu_before_it_looks_for_a_node() -> None:
    result = run_python("-m", "node.cli", "mine", "--backend", "cuda", interpret=False)
    assert result.returncode == ExitCode.FAILURE
    assert result.stderr.startswith("mathesis: unavailable: found no CUDA device")
    assert "Traceback" not in result.stderr
