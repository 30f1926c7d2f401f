"""`python -m benchmarks.gpu_lottery`: what mining costs on a CUDA device beside the same products without it.

One table of products: cuBLASLt's, our own, the same with folds, with the noise taken out at the end, and the whole of
mining from committed operands to winning tickets. One of operands laid out under noise, and one of tensor roots in
bytes a second. It needs a GPU and exits with 2 where there is none. `--tiny` runs all of its logic anywhere. It writes
no file.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu import EXIT_NO_DEVICE, WARM_UP, find_device_name, synchronise
from chain.hashing import tagged_hash
from ml.backends.cuda import lottery, matmul
from ml.backends.cuda.blake3 import upload_key
from ml.backends.cuda.device import get_device, new
from ml.backends.cuda.lottery_product import multiply
from ml.backends.cuda.noise import Factors, Layout, Span, draw_factors, get_layout, lay_out
from ml.backends.cuda.tensor_hash import compute_roots
from ml.noise import MatmulShape

SEED = tagged_hash("benchmark", b"gpu lottery")
SIDES = (1024, 2048, 4096, 8192)
Kind = tuple[tuple[int, int], torch.dtype]
TENSORS: tuple[Kind, ...] = (((4096, 4096), torch.int8), ((8192, 1024), torch.int32), ((8192, 4096), torch.int32))
REPEATS = 50


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one call, in microseconds."""

    median_us: float
    spread_us: float
    """Between the first and the ninth tenth of the samples."""

    def __str__(self) -> str:
        return f"{self.median_us:>10.1f} ±{self.spread_us:>7.1f}"


def measure(function: Callable[[], object], repeats: int) -> Timing:
    """Time `function` with the device idle before and after it, so that launches count."""
    samples = []
    for turn in range(min(WARM_UP, repeats) + repeats):
        synchronise()
        start = time.perf_counter()
        function()
        synchronise()
        if turn >= min(WARM_UP, repeats):
            samples.append(1e6 * (time.perf_counter() - start))
    tenths = statistics.quantiles(samples, n=10) if len(samples) > 1 else samples
    return Timing(statistics.median(samples), tenths[-1] - tenths[0])


def draw_operand(rows: int, columns: int) -> Tensor:
    """Return random mantissas, (rows, columns) int8."""
    return torch.randint(-63, 64, (rows, columns), dtype=torch.int8, device=get_device())


def prepare(shape: MatmulShape, operands: tuple[Tensor, Tensor], layout: Layout) -> tuple[Factors, Tensor, Tensor]:
    """Return the noise of a matmul and both operands laid out."""
    factors = draw_factors(upload_key(SEED), (shape.M, shape.N), layout, Span())
    left, right = (lay_out(x, factors, layout, is_left=side == 0) for side, x in enumerate(operands))
    return factors, left, right


def measure_products(side: int, repeats: int) -> tuple[Timing, ...]:
    """Time the products of square matrices: cuBLASLt's, ours, folded, denoised too, and all of mining."""
    shape, a, bt = MatmulShape(side, side, side), draw_operand(side, side), draw_operand(side, side)
    product = new(a, (side, side))
    bare, full = (get_layout(shape, has_product=has_product) for has_product in (False, True))
    (_, left, right), (_, wide_left, wide_right) = (prepare(shape, (a, bt), layout) for layout in (bare, full))
    return (
        measure(lambda: torch._int_mm(a, bt.T), repeats),
        measure(lambda: matmul.multiply(a, bt), repeats),
        measure(lambda: multiply(left, right, bare, None), repeats),
        measure(lambda: multiply(wide_left, wide_right, full, product), repeats),
        measure(lambda: lottery.mine(SEED, a, bt, [0] * shape.windows, has_product=True), repeats),
    )


def measure_layouts(side: int, repeats: int) -> tuple[Timing, Timing, int]:
    """Time drawing the noise of square operands and laying out both; return the bytes that the latter moves."""
    shape, a, bt = MatmulShape(side, side, side), draw_operand(side, side), draw_operand(side, side)
    layout, key = get_layout(shape, has_product=True), upload_key(SEED)
    factors, _, _ = prepare(shape, (a, bt), layout)
    drawn = measure(lambda: draw_factors(key, (side, side), layout, Span()), repeats)
    laid = measure(lambda: [lay_out(x, factors, layout, is_left=x is a) for x in (a, bt)], repeats)
    return drawn, laid, 2 * side * (side + layout.width)


def measure_root(shape: tuple[int, int], dtype: torch.dtype, repeats: int) -> tuple[Timing, int]:
    """Time the root of one tensor; return its bytes."""
    tensor = torch.randint(-63, 64, shape, dtype=dtype, device=get_device())
    return measure(lambda: compute_roots([tensor]), repeats), tensor.numel() * tensor.element_size()


def report(sides: Sequence[int], tensors: Sequence[Kind], repeats: int) -> None:
    """Print the three tables."""
    print("| n | cuBLASLt int8, us | ours | folded | folded, denoised | mined | over cuBLASLt | over ours |")
    print("|---|---|---|---|---|---|---|---|")
    for side in sides:
        timings = measure_products(side, repeats)
        ratios = [timings[-1].median_us / plain.median_us for plain in timings[:2]]
        print(f"| {side} | {' | '.join(map(str, timings))} | {ratios[0]:.2f} | {ratios[1]:.2f} |", flush=True)
    print("\n| n | factors drawn, us | both operands laid out, us | GB/s |\n|---|---|---|---|")
    for side in sides:
        drawn, laid, size_bytes = measure_layouts(side, repeats)
        print(f"| {side} | {drawn} | {laid} | {size_bytes / laid.median_us / 1e3:.1f} |", flush=True)
    print("\n| tensor | root, us | GB/s |\n|---|---|---|")
    for shape, dtype in tensors:
        root, size_bytes = measure_root(shape, dtype, repeats)
        name = f"{shape[0]} x {shape[1]} {str(dtype).removeprefix('torch.')}"
        print(f"| {name} | {root} | {size_bytes / root.median_us / 1e3:.1f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description="Mining on a GPU beside plain int8 products.")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: checks the benchmark itself, anywhere")
    is_tiny = parser.parse_args(arguments).tiny
    name = find_device_name("benchmarks.gpu_lottery", is_tiny=is_tiny)
    if name is None:
        return EXIT_NO_DEVICE
    repeats = 1 if is_tiny else REPEATS
    print(
        f"device: {name}; torch {torch.__version__}; medians of {repeats} calls ± spread of the middle eight tenths\n"
    )
    report((32,) if is_tiny else SIDES, (((2, 40), torch.int8),) if is_tiny else TENSORS, repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
