"""Mining on the CUDA backend: the comparisons stand in `tests/node/cuda_miner_suite.py`, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton", reason="found no triton, expected it for the CUDA kernels: pip install -e '.[dev]'")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_segment_mined_on_the_device_is_the_reference_s() -> None:
    environment = dict(os.environ) | ({} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"})
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    command = [sys.executable, "-m", "pytest", *options, "tests/node/cuda_miner_suite.py"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
