"""`python -m benchmarks.gpu`: integer training on a CUDA device against bf16 PyTorch, and against the CPU's bytes.

Three tables: int8 products as a part of the card's peak; tokens a second of the integer step and of the same decoder in
bf16 under torch.compile; and the first step at which the CUDA backend's state differs from the CPU's. It needs a GPU
and exits with 2 where there is none. `--tiny` runs all of its logic at toy sizes, in Triton's interpreter too. It
writes no file.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from benchmarks.training_step import FloatDecoder
from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.arithmetic import IntArray
from ml.backends import Groups, get_backend
from ml.backends.cuda import matmul
from ml.backends.cuda.backend import CudaBackend
from ml.backends.cuda.device import IS_INTERPRETED, DeviceMissing, get_device
from ml.backends.cuda.resident import fetch, make_resident
from ml.checkpoint import Checkpoint
from ml.dataset import Text
from ml.models import build_program
from ml.program import Program
from ml.segment import Runner, compute_initial_state
from ml.spec import DIGITS, Decoder, Positions, Spec
from ml.training import run_training_step

EXIT_NO_DEVICE = 2
PEAK_TOPS = 1979
"""Dense int8 operations a second, in units of 10^12, of an H100 SXM."""
TEXT_BYTES = 1 << 20
WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is measured."""

    products: tuple[tuple[int, int, int], ...]
    """M, N, K."""
    models: tuple[tuple[Decoder, int], ...]
    """With the sequences of a batch."""
    repeats: int
    compared: tuple[Decoder, int]
    steps: int
    """Of the comparison with the CPU."""


def make_decoder(width: int, layers: int, context: int) -> Decoder:
    """Return a decoder over bytes with heads of 128."""
    return Decoder(256, context, width, layers, max(1, width // 128), 4 * width, int(Positions.LEARNED), 0)


FULL = Sizes(
    ((1024, 1024, 1024), (8192, 1024, 1024), (8192, 4096, 4096), (8192, 16384, 4096), (8192, 8192, 8192)),
    ((make_decoder(1024, 12, 1024), 8), (make_decoder(4096, 4, 1024), 8)),
    20,
    (make_decoder(256, 2, 128), 8),
    1000,
)
TINY = Sizes(((16, 16, 32),), ((make_decoder(4, 1, 3), 1),), 1, (make_decoder(4, 1, 3), 1), 2)


def make_runner(model: Decoder, batch: int, steps: int, backend: str) -> Runner:
    """Return a runner over random bytes; `backend` is "cuda", resident, or the name of another."""
    spec: Spec = replace(
        DIGITS, model=model, batch=batch, segment_steps=steps, learning_rate=1 << 22, warmup_steps=0, decay_steps=0
    )
    stream = np.random.default_rng(1).integers(0, model.vocabulary, TEXT_BYTES).astype(np.uint8)
    stream.setflags(write=False)
    program, text = build_program(spec), Text(stream, stream[:4096], Hash(bytes(32)))
    chosen = CudaBackend(is_resident=True) if backend == "cuda" else get_backend(backend)
    return Runner(program, chosen, text, tagged_hash("benchmark", b"gpu"), draw_checkpoint(program))


def draw_checkpoint(program: Program) -> Checkpoint:
    """Return weights of the deviation that each parameter begins with: what training starts from takes minutes here."""
    rng, weights = np.random.default_rng(1), []
    for parameter in program.parameters:
        bound = math.isqrt(3 * parameter.deviation**2)
        weights.append(rng.integers(-bound, bound, (parameter.rows, parameter.columns), np.int32, endpoint=True))
    return Checkpoint(tuple(weights), tuple(np.zeros_like(part) for part in weights))


def synchronise() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure_seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of one call, after warming up."""
    samples, warm_up = [], min(WARM_UP, repeats)
    for turn in range(warm_up + repeats):
        synchronise()
        start = time.perf_counter()
        function()
        synchronise()
        if turn >= warm_up:
            samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def measure_product(sizes: tuple[int, int, int], repeats: int) -> float:
    """Return tera-operations a second of a product with its rescaling; a MAC is two operations."""
    m, n, k = sizes
    shapes = ((m, k), (n, k))
    a, b = (torch.randint(-63, 64, shape, dtype=torch.int8, device=get_device()) for shape in shapes)
    a_exponents, b_exponents = (torch.ones((rows, 1), dtype=torch.int32, device=get_device()) for rows in (m, n))
    groups = Groups(1, 24, is_causal=False)
    seconds = measure_seconds(lambda: matmul.multiply_groups((a, a_exponents), (b, b_exponents), groups), repeats)
    return 2 * m * n * k / seconds / 1e12


def measure_integer(runner: Runner, repeats: int) -> float:
    """Return tokens a second of the integer step, its state on the device."""
    spec = runner.program.spec
    assert isinstance(spec.model, Decoder)
    state: list[tuple[IntArray, ...]] = [make_resident(compute_initial_state(runner.program, runner.checkpoint))]
    step = [0]

    def run() -> None:
        state[0] = run_training_step(runner, step[0], state[0]).state
        step[0] += 1

    return spec.batch * spec.model.context / measure_seconds(run, repeats)


def measure_float(model: Decoder, batch: int, repeats: int, *, is_compiled: bool) -> float:
    """Return tokens a second of the same decoder in bf16 with fused AdamW."""
    with get_device():
        net = FloatDecoder(model).to(dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=torch.cuda.is_available())
    forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(net) if is_compiled else net
    rows = torch.randint(0, model.vocabulary, (batch, model.context + 1), device=get_device())

    def run() -> None:
        logits = forward(rows[:, :-1]).float()
        loss = functional.cross_entropy(logits.reshape(-1, model.vocabulary), rows[:, 1:].reshape(-1))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return batch * model.context / measure_seconds(run, repeats)


def find_divergence(model: Decoder, batch: int, steps: int) -> int | None:
    """Return the first step after which weights, moments or loss differ from the CPU's, or None."""
    runners = [make_runner(model, batch, steps, name) for name in ("cpu", "cuda")]
    expected = compute_initial_state(runners[0].program, runners[0].checkpoint)
    found = make_resident(expected)
    for step in range(steps):
        one, other = (
            run_training_step(runner, step, state) for runner, state in zip(runners, (expected, found), strict=True)
        )
        expected, found = one.state, other.state
        same = all(np.array_equal(a, b) for a, b in zip(expected, fetch(found), strict=True))
        if not same or one.loss_f16 != other.loss_f16:
            return step
    return None


def report(sizes: Sizes, peak_tops: int, *, is_compiled: bool) -> int:
    """Print the tables; return 1 when the bytes differ, else 0."""
    print("int8 products, rescaled    TOP/s  of peak")
    for product in sizes.products:
        tops = measure_product(product, sizes.repeats)
        print(f"{'x'.join(map(str, product)):<24}{tops:>8.1f}{tops / peak_tops:>8.1%}", flush=True)
    print("decoder                integer tok/s   bf16 tok/s   ratio")
    for model, batch in sizes.models:
        integer = measure_integer(make_runner(model, batch, WARM_UP + sizes.repeats, "cuda"), sizes.repeats)
        bf16 = measure_float(model, batch, sizes.repeats, is_compiled=is_compiled)
        name = f"d={model.width} layers={model.layers}"
        print(f"{name:<22}{integer:>14.0f}{bf16:>13.0f}{integer / bf16:>8.2f}", flush=True)
    step = find_divergence(*sizes.compared, sizes.steps)
    verdict = "no difference" if step is None else f"first difference after step {step}"
    print(f"state and loss against the CPU over {sizes.steps} steps: {verdict}")
    return 0 if step is None else 1


def find_device_name(program: str, *, is_tiny: bool) -> str | None:
    """Return what `program` runs on, or None after saying why it cannot; only toy sizes are for the interpreter."""
    try:
        device = get_device()
    except DeviceMissing as missing:
        print(f"{program}: {missing}", file=sys.stderr)
        return None
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if is_tiny:
        return "Triton's interpreter (no timings to keep)"
    print(f"{program}: found Triton's interpreter, expected a GPU: add --tiny", file=sys.stderr)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description="Integer training on a GPU against bf16 and against the CPU.")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: checks the benchmark itself, anywhere")
    parser.add_argument("--peak-tops", type=int, default=PEAK_TOPS, help="dense int8 peak of the card, 10^12 a second")
    options = parser.parse_args(arguments)
    name = find_device_name("benchmarks.gpu", is_tiny=options.tiny)
    if name is None:
        return EXIT_NO_DEVICE
    print(f"device: {name}")
    return report(TINY if options.tiny else FULL, options.peak_tops, is_compiled=not IS_INTERPRETED)


if __name__ == "__main__":
    sys.exit(main())
