"""Mining on the CUDA backend: the comparisons stand in `tests/node/cuda_miner_suite.py`, in a process of their own."""

import pytest

pytest.importorskip("triton", reason="found no triton, expected it for the CUDA kernels: pip install -e '.[dev]'")

from tests.support.cuda import check_suite


@pytest.mark.slow
def test_a_segment_mined_on_the_device_is_the_reference_s() -> None:
    check_suite("tests/node/cuda_miner_suite.py")
