"""The trainer on the CUDA backend writes the checkpoint that it writes on the reference: kept on the device, fetched to
be written, scored on the way.

A process of its own runs the kernels in Triton's interpreter where no device is; that flag is read at import.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from node.backends import make_backend
from node.models.errors import ModelError
from node.models.specs import format_spec
from tests.support.models import TINY_MLP

ROOT = Path(__file__).resolve().parents[2]


def train(spec: Path, out: Path, backend: str) -> bytes:
    command = [sys.executable, "-m", "node.cli", "train", str(spec), "--data", "digits", "--steps", "2"]
    options = ["--out", str(out), "--backend", backend, "--evaluate-every", "1", "--json"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([*command, *options], cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
    return (out / "step-000002.safetensors").read_bytes()


def test_the_same_checkpoint_as_on_the_reference(tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(format_spec(TINY_MLP))
    assert train(spec, tmp_path / "cuda", "cuda") == train(spec, tmp_path / "reference", "reference")


def test_no_device_and_no_interpreter_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a device")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ModelError, match="found no CUDA device"):
        make_backend("cuda")
