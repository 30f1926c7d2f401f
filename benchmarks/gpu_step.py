"""`python -m benchmarks.gpu_step`: what a mined, traced training step costs on a GPU beside the same step in bf16.

A miner keeps every tensor of a step, hashes it where it lies, and draws tickets in the products. Beside it stand the
same integer step as whoever only trains runs it, and bf16 PyTorch under torch.compile. Then: where the device's time
goes, kernel by kernel. It needs a GPU and exits with 2 where there is none. It writes no file.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu import (
    EXIT_NO_DEVICE,
    WARM_UP,
    find_device_name,
    make_decoder,
    make_runner,
    measure_float,
    measure_integer,
    synchronise,
)
from chain.hashing import tagged_hash
from consensus.ticket import Draw, compute_thresholds, compute_ticket_seed
from ml.backends import U8
from ml.backends.cuda.backend import CudaBackend
from ml.lottery import get_lottery
from ml.noise import I32
from ml.segment import Runner
from ml.spec import Decoder
from node.miner.plan import SegmentPlan
from node.miner.segment import MatmulOperands, MineProduct, train_segment

SEED = tagged_hash("benchmark", b"gpu step")
DRAW = Draw(SEED, SEED, SEED, 1)
"""Nobody wins: what a ticket costs is its drawing."""
PLAN = SegmentPlan(0, 0, 0)
STEPS = 5
"""Of a segment; the first two warm up, the last closes the one before it."""
REPEATS = 10
KERNELS_SHOWN = 16
Model = tuple[Decoder, int]
"""With the sequences of a batch."""

MODELS: tuple[Model, ...] = (
    (make_decoder(1024, 4, 1024), 8),
    (make_decoder(4096, 2, 1024), 8),
    (make_decoder(4096, 2, 256), 32),
)


class Measured(Exception):
    """The last step has begun: what a segment costs once, at its end, is left out."""


@dataclass(frozen=True, slots=True)
class Clock(CudaBackend):
    """The backend, which notes when each step begins, the device idle."""

    starts: list[float] = field(default_factory=list)

    def draw_windows(self, stream: U8, key: int, batch: int, context: int) -> tuple[I32, I32]:
        """Draw the batch of the next step; raises Measured at the last."""
        synchronise()
        self.starts.append(time.perf_counter())
        if len(self.starts) == STEPS:
            raise Measured
        return CudaBackend.draw_windows(self, stream, key, batch, context)


def mine(matmul: MatmulOperands) -> I32:
    """Draw the tickets of a product and return it."""
    seed, thresholds = compute_ticket_seed(DRAW, matmul.place), compute_thresholds(DRAW.target, matmul.place.shape)
    return get_lottery("cuda").mine_matmul(seed, matmul.a, matmul.bt, thresholds)[1]


def measure_step(runner: Runner, mining: MineProduct | None) -> float:
    """Return the milliseconds of one step of a segment as a miner trains it."""
    clock = Clock(is_resident=True)
    try:
        train_segment(replace(runner, backend=clock), PLAN, mining)
    except Measured:
        torch.cuda.empty_cache()
    return 1e3 * median(after - before for before, after in list(pairwise(clock.starts))[2:])


def measure(model: Model, runner: Runner) -> str:
    """Return a row: bf16, integer training, a traced step, a mined and traced step, and ratios to bf16."""
    tokens, decoder = model[0].context * model[1], model[0]
    bf16 = tokens / measure_float(*model, REPEATS, is_compiled=True) * 1e3
    trained = tokens / measure_integer(runner, REPEATS) * 1e3
    traced, mined = (measure_step(runner, mining) for mining in (None, mine))
    name = f"{decoder.width} | {decoder.layers} | {model[1]} x {decoder.context}"
    times = " | ".join(f"{ms:.1f}" for ms in (bf16, trained, traced, mined))
    return f"| {name} | {times} | {trained / bf16:.2f} | {traced / bf16:.2f} | {mined / bf16:.2f} |"


def profile_kernels(name: str, run: Callable[[], object]) -> None:
    """Print where the device's time goes, kernel by kernel."""
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        start = time.perf_counter()
        run()
        synchronise()
        seconds = time.perf_counter() - start
    rows = sorted(found.key_averages(), key=lambda row: -row.self_device_time_total)
    total_us = sum(row.self_device_time_total for row in rows)
    print(f"\n{name}: {seconds * 1e3:.0f} ms, kernels {total_us / 1e3:.0f} ms")
    print("\n| kernel | launches | ms | share |\n|---|---|---|---|")
    for row in rows[:KERNELS_SHOWN]:
        time_us = row.self_device_time_total
        print(f"| {row.key[:60]} | {row.count} | {time_us / 1e3:.1f} | {time_us / max(total_us, 1):.1%} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description="A mined step on a GPU beside bf16.")
    parser.parse_args(arguments)
    name = find_device_name("benchmarks.gpu_step", is_tiny=False)
    if name is None:
        return EXIT_NO_DEVICE
    print(f"device: {name}; torch {torch.__version__}; milliseconds a step\n")
    print("| width | layers | batch | bf16 | integer | traced | mined, traced | integer / bf16 | traced | mined |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    runners = [make_runner(*model, WARM_UP + REPEATS, "cuda") for model in MODELS]
    for model, runner in zip(MODELS, runners, strict=True):
        print(measure(model, runner), flush=True)
    for (decoder, _), runner in zip(MODELS[1:], runners[1:], strict=True):
        shape = f"width {decoder.width}, context {decoder.context}"
        profile_kernels(f"{shape}: two steps trained", partial(measure_integer, runner, 1))
        profile_kernels(f"{shape}: {STEPS - 1} steps mined and traced", partial(measure_step, runner, mine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
