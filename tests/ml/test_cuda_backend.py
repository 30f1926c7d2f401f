"""The CUDA kernels: equal to the reference in Triton's interpreter or on a GPU, and accepted by the compiler for one.

The comparisons stand in `tests/ml/cuda_suite.py`, which needs a process of its own.
"""

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="found no triton, expected it for the CUDA kernels: pip install -e '.[dev]'")

import triton.language as tl

from benchmarks import gpu
from benchmarks.gpu_kernels import HOPPER, Report, Variant, compile_variant, list_variants
from ml.backends.cuda.backend import CudaBackend
from ml.backends.cuda.device import Block, DeviceMissing, get_tile, kernel, split_word
from tests.support.cuda import ROOT, check_suite, run_python


@pytest.mark.slow
def test_every_op_and_whole_steps_equal_the_reference() -> None:
    check_suite("tests/ml/cuda_suite.py")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_machine_without_a_gpu_is_told_what_to_do() -> None:
    with pytest.raises(DeviceMissing, match=r"^found no CUDA device, expected one.*choose backend 'cpu'"):
        CudaBackend()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    patch = pytest.MonkeyPatch()
    patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
    patch.delenv("TRITON_INTERPRET", raising=False)
    # The least and the largest rank of noise stand for the one between.
    variants = [variant for variant in list_variants() if variant.constants.get("rank") != 64]
    compiled = [compile_variant(variant) for variant in variants]
    patch.undo()
    return compiled


@pytest.mark.slow
def test_every_kernel_compiles_for_hopper_without_a_float(reports: list[Report]) -> None:
    assert (HOPPER.backend, HOPPER.arch) == ("cuda", 90)
    assert len(reports) >= 30
    for report in reports:
        assert report.cubin_bytes > 0
        assert report.floats == (), report
        # A multiprocessor of compute capability 9.0 gives a block 227 KiB; 65,536 registers hold 256 threads of 255.
        assert report.shared_bytes <= 227 << 10, report
        assert report.registers <= 255, report


@pytest.mark.slow
def test_products_use_the_int8_tensor_cores_and_nothing_else_does(reports: list[Report]) -> None:
    for report in reports:
        assert report.has_integer_product == report.name.startswith(("multiply", "lay-out")), report


@pytest.mark.slow
def test_every_kernel_of_the_package_is_compiled() -> None:
    sources = sorted((ROOT / "ml/backends/cuda").glob("*.py"))
    kernels = sum(source.read_text(encoding="utf-8").count("\n@kernel(") for source in sources)
    assert kernels == len({id(variant.kernel) for variant in list_variants()})


@kernel()
def _halve(x: Block, block: tl.constexpr) -> None:
    at = tl.arange(0, block)
    tl.store(x + at, (tl.load(x + at) / 2).to(tl.int32))


def test_a_planted_float_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    report = compile_variant(Variant("planted", _halve, {"block": 128}))
    assert report.floats
    assert not report.has_integer_product


@pytest.mark.parametrize("word", [0, 1, 2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1])
def test_the_halves_of_a_word(word: int) -> None:
    low, high = split_word(word)
    assert all(-(2**31) <= half < 2**31 for half in (low, high))
    assert (high & 0xFFFFFFFF) << 32 | low & 0xFFFFFFFF == word


def test_tiles_are_powers_of_two_and_small() -> None:
    for rows, columns in ((1, 1), (3, 7), (10_000, 9), (16_384, 16_384)):
        tile = get_tile(rows, columns)
        assert all(side & (side - 1) == 0 for side in tile)
        assert tile[0] * tile[1] <= 2048


def test_the_benchmark_runs_at_toy_sizes() -> None:
    result = run_python("-m", "benchmarks.gpu", "--tiny", interpret=not torch.cuda.is_available())
    assert result.returncode == 0, result.stdout + result.stderr
    assert "state and loss against the CPU over 2 steps: no difference" in result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_the_benchmark_says_that_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("benchmarks.gpu: found ")
