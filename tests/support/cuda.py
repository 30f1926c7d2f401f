"""Python in a process of its own for the CUDA kernels: Triton decides at import whether it interprets.

Where there is a GPU the kernels run on it, unless the interpreter is asked for.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 600


def run_python(*arguments: str, interpret: bool) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in the root of the project."""
    dropped = ("TRITON_INTERPRET", "PYTEST_ADDOPTS")
    environment = {name: os.environ[name] for name in sorted(os.environ) if name not in dropped}
    environment |= {"TRITON_INTERPRET": "1"} if interpret else {}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def check_suite(path: str) -> None:
    """Run a file of comparisons, and show what failed."""
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    result = run_python("-m", "pytest", *options, path, interpret=not torch.cuda.is_available())
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
