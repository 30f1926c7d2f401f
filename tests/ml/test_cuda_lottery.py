"""The lottery and tensor roots on CUDA: equal to their references in Triton's interpreter or on a GPU.

The comparisons stand in `tests/ml/cuda_lottery_suite.py`, which needs a process of its own. That every kernel compiles
for a GPU without a float is tested with all others; here is what the fold must become there.
"""

import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("triton", reason="found no triton, expected it for the CUDA kernels: pip install -e '.[dev]'")

from benchmarks import gpu_lottery, gpu_step
from benchmarks.gpu_kernels import compile_for_hopper, list_lottery, read_usage
from tests.support.cuda import check_suite, run_python

_LOOP = re.compile(r"^(\$L__BB\w+):(?:(?!^\$L__BB).)*?\bbra(?:\.uni)?\s+\1;", re.MULTILINE | re.DOTALL)
"""A stretch of PTX that branches back to its own label, with no other label of a block inside."""


@pytest.mark.slow
def test_tickets_products_and_roots_equal_the_reference() -> None:
    check_suite("tests/ml/cuda_lottery_suite.py")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [32, 64, 128])
def test_a_fold_moves_no_word_between_threads(rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    (variant,) = (
        variant
        for variant in list_lottery()
        if variant.name == f"multiply-mined-{rank}" and variant.constants["has_product"]
    )
    compiled = compile_for_hopper(variant)
    loops = [loop[0] for loop in _LOOP.finditer(compiled.asm["ptx"]) if "wgmma.mma_async" in loop[0]]
    (folding,) = (loop for loop in loops if "shf.l.wrap.b32" in loop)
    # One rotation for two accumulators of a thread.
    assert folding.count("shf.l.wrap.b32") == 128 * 128 // 2 // (32 * variant.warps)
    assert not re.search(r"\b(?:shfl\.sync\.bfly|st\.shared|ld\.shared|st\.local|ld\.local)\b", folding)
    # Nothing of a thread is kept in memory: no accumulator and no state is spilled.
    assert read_usage(compiled.asm["cubin"])[1] == 0


def test_the_benchmark_runs_at_toy_sizes() -> None:
    result = run_python("-m", "benchmarks.gpu_lottery", "--tiny", interpret=not torch.cuda.is_available())
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("| 32 |") == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.parametrize("benchmark", [gpu_lottery, gpu_step])
def test_a_benchmark_says_that_there_is_no_gpu(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{benchmark.__name__}: found no CUDA device")
