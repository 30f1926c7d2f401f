"""`python -m benchmarks.mined_step`: what mining adds to a product, and to a training step.

Square products beside the library's plain int8 product, the parts of one on each unit of the machine, the digits' step
and steps of decoders of one layer with and without mining. All on one thread, side by side in one run, in that thread's
time: neighbours may take the processor, and only their hold on caches is left in the figures. Writes the tables, with
the machine they were measured on, to benchmarks/results/mined_step.md.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks.lab.tables import describe_run, format_table
from chain.primitives import Hash
from consensus.ticket import Draw, Operands, compute_thresholds, compute_ticket_seed
from ml.arithmetic import IntArray
from ml.backends import get_backend
from ml.backends.cpu import ticket as kernels
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.mining import Group, Right, run_group
from ml.backends.cpu.operands import Operand
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.backends.cpu.tile import U8
from ml.backends.cpu.tiles import configure, make_aligned, release
from ml.backends.cpu.units import UNIT_NAMES, get_units, make_tile_config
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import Text, load_digits
from ml.models import build_program
from ml.noise import I8, I32, MatmulShape
from ml.program import Matmul
from ml.segment import Runner, compute_initial_state, run_step
from ml.spec import DIGITS, Decoder, Positions
from ml.trace import compute_step_roots

RESULTS = Path(__file__).parent / "results" / "mined_step.md"
REPEATS = 51
SIDE_BY_SIDE = 21
SIZES = ((256, 51), (512, 51), (1024, 31), (2048, 15), (4096, 5))
"""Sides of square products and how often each is run."""
MODELS = ((192, 8), (512, 8), (1024, 8))
"""Widths of decoders and their batches."""
SEED = Hash(bytes(32))
Row = tuple[str, ...]

_SQUARE = np.random.default_rng(0).integers(-63, 63, (1024, 1024), np.int8, endpoint=True)
_NO_PRODUCT = np.empty((0, 0), np.int32)


@cache
def _make_bands() -> tuple[Operand, Right]:
    """Return bands of two square operands without noise; what a product does not depend on is left zero."""
    bands_u8, none_u8 = make_aligned(1024 * 1024), make_aligned(0)
    bands_u8[:] = _SQUARE.reshape(-1).view(np.uint8)
    offsets_i32, none_i32 = np.zeros(bands_u8.size // 32, np.int32), np.empty(0, np.int32)
    return (bands_u8, none_u8), (bands_u8, none_u8, offsets_i32, none_i32)


def measure_us(function: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Return the median microseconds of one call and the distance between its quartiles."""
    function()
    samples = []
    for _ in range(repeats):
        start_ns = time.thread_time_ns()
        function()
        samples.append((time.thread_time_ns() - start_ns) / 1000)
    low, median, high = statistics.quantiles(samples, n=4)
    return median, high - low


def measure_step() -> list[Row]:
    """Return the parts of one mined step of the digits: name, microseconds, spread, share of the whole."""
    program, backend = build_program(DIGITS), get_backend("cpu")
    runner = Runner(program, backend, load_digits(DIGITS.heldout), SEED, compute_initial_checkpoint(program))
    state = compute_initial_state(program, runner.checkpoint)
    tensors = run_step(runner, 0, state)
    parts = {
        "training": measure_us(partial(run_step, runner, 0, state)),
        "trace commitment": measure_us(partial(compute_step_roots, program, 0, tensors, compute_tensor_roots)),
        "mining instead of multiplying": _subtract(
            measure_us(partial(run_step, replace(runner, multiply=_mine), 0, state)),
            measure_us(partial(run_step, runner, 0, state)),
        ),
    }
    whole = sum(median for median, _ in parts.values())
    parts["mined step"] = whole, sum(spread for _, spread in parts.values())
    training = parts["training"][0]
    return [
        (name, f"{median:.0f}", f"{spread:.0f}", f"{100 * median / whole:.0f} %", f"{median / training:.2f}")
        for name, (median, spread) in parts.items()
    ]


def _subtract(left: tuple[float, float], right: tuple[float, float]) -> tuple[float, float]:
    return left[0] - right[0], left[1] + right[1]


def _mine(matmul: Matmul, a: I8, bt: I8) -> I32:
    """Multiply as a miner does: seed, noise, folds, digests, and the noise taken out."""
    shape = MatmulShape(len(a), len(bt), a.shape[1])
    if matmul.is_attention or not shape.has_tickets:
        return get_backend("cpu").multiply(a, bt)
    seed = compute_ticket_seed(Draw(SEED, SEED, SEED, 1), Operands(0, matmul.op, 0, shape, SEED, SEED))
    return kernels.mine_matmul(seed, a, bt, compute_thresholds(1, shape))[1]


def measure_models() -> list[Row]:
    """Return, by width of a decoder of one layer, a step as it is, with mined products, and with its trace as well."""
    return [_measure_model(width, batch) for width, batch in MODELS]


def _measure_model(width: int, batch: int) -> Row:
    model = Decoder(256, 128, width, 1, width // 64, 4 * width, Positions.LEARNED, 0)
    spec = replace(DIGITS, model=model, batch=batch, segment_steps=2, warmup_steps=0, decay_steps=0)
    program, stream = build_program(spec), np.random.default_rng(0).integers(0, 256, 100_000, np.uint8)
    stream.setflags(write=False)
    runner = Runner(
        program, get_backend("cpu"), Text(stream, stream[:1024], SEED), SEED, compute_initial_checkpoint(program)
    )
    mining, state = replace(runner, multiply=_mine), compute_initial_state(program, runner.checkpoint)
    plain, mined, traced = measure_side_by_side(
        partial(run_step, runner, 0, state),
        partial(run_step, mining, 0, state),
        partial(_run_traced_step, mining, state),
    )
    share = sum(matmul.macs for matmul in program.lottery_matmuls) / sum(matmul.macs for matmul in program.matmuls)
    times = [f"{time_us / 1000:.1f}" for time_us in (plain, mined, traced)]
    ratios = [f"{time_us / plain:.2f}" for time_us in (mined, traced)]
    return f"{width}", f"{batch * 128}", f"{100 * share:.0f} %", *times, *ratios


def _run_traced_step(runner: Runner, state: tuple[IntArray, ...]) -> None:
    tensors = run_step(runner, 0, state)
    compute_step_roots(runner.program, 0, tensors, compute_tensor_roots)


def measure_side_by_side(*functions: Callable[[], object], repeats: int = SIDE_BY_SIDE) -> list[float]:
    """Return the median microseconds of functions called in turn, so that all see the same machine."""
    samples: list[list[float]] = [[] for _ in functions]
    for number in range(repeats + 1):
        for function, own in zip(functions, samples, strict=True):
            start_ns = time.thread_time_ns()
            function()
            if number > 0:
                own.append((time.thread_time_ns() - start_ns) / 1000)
    return [statistics.median(own) for own in samples]


def measure_matmuls() -> list[Row]:
    """Return, by side of a square matmul, the milliseconds of the backend's product and of mining, and their ratios.

    Each makes its own memory for the product, as it does in training.
    """
    rows, plain_of = [], get_backend("cpu").multiply
    for size, repeats in SIZES:
        a, bt = (np.random.default_rng(key).integers(-63, 63, (size, size), np.int8, endpoint=True) for key in (1, 2))
        thresholds = (0,) * MatmulShape(size, size, size).windows
        plain, mined, lap = measure_side_by_side(
            partial(plain_of, a, bt),
            partial(kernels.mine_matmul, SEED, a, bt, thresholds),
            partial(kernels.find_tickets, SEED, a, bt, thresholds),
            repeats=repeats,
        )
        times = [f"{time_us / 1000:.2f}" for time_us in (plain, mined, lap)]
        rate = f"{size**3 / mined / 1000:.0f}"
        rows.append((f"{size}", *times, f"{mined / plain:.2f}", f"{lap / plain:.2f}", rate))
    return rows


def measure_units() -> list[Row]:
    """Return, by unit of the machine, the milliseconds of parts of a 1024 x 1024 x 1024 product, each alone."""
    rows = []
    for unit in get_units():
        tiles, folded, found, mined = measure_side_by_side(
            partial(_run_tiles, unit, False),
            partial(_run_tiles, unit, True),
            partial(kernels.run_matmul, unit, SEED, _SQUARE, _SQUARE, _NO_PRODUCT),
            partial(kernels.run_matmul, unit, SEED, _SQUARE, _SQUARE, np.empty((1024, 1024), np.int32)),
            repeats=SIDE_BY_SIDE if unit else 7,
        )
        times = [f"{time_us / 1000:.2f}" for time_us in (tiles, folded, found, mined)]
        rows.append((UNIT_NAMES[unit], *times, f"{100 * (folded / tiles - 1):.0f} %", f"{1024**3 / mined / 1000:.0f}"))
    return rows


def _run_tiles(unit: int, has_folds: bool) -> None:
    """Run all tiles of a square product with bands laid out before; 32 columns between folds, or none."""
    plan = (32, 1024 if has_folds else 0, 1024)
    left, right = _make_bands()
    words_u32 = np.empty((32, 32, 1, 19), np.uint32)
    stage_i32 = np.empty((32, 32, 1024), np.int32)
    time_tiles(unit, make_tile_config(32), plan, left, right, (words_u32, stage_i32))


@kernel
def time_tiles(unit: int, config_u8: U8, plan: tuple[int, int, int], left: Operand, right: Right, group: Group) -> None:
    """Run all tiles, with the unit configured."""
    configure(unit, config_u8)
    run_group(unit, plan, left, right, group, (0, 32))
    release(unit)


def main() -> None:
    """Print the tables and write them beside this module."""
    machine = describe_run() + "\n"
    text = "\n".join(
        [
            "# Mining beside plain products and plain training\n",
            machine,
            "All on one thread, whose processor time this is; what a row compares was run in turn, medians. "
            "Plain is the CPU backend's product, here "
            "torch's `_int_mm`. Mined is the whole pipeline: noise of both operands, folds, digests, and the exact "
            "product. A lap is the same without the product: operands that are noised again.\n",
            "Square products, milliseconds:\n",
            format_table(
                ("side", "plain", "mined", "a lap", "mined / plain", "a lap / plain", "GMAC/s mined"),
                measure_matmuls(),
            ),
            "A product of side 1,024 by unit, milliseconds. Tiles are products of bands that lie ready, without and "
            "with folds every 32 columns:\n",
            format_table(
                ("unit", "tiles", "tiles and folds", "a lap", "mined", "folds add", "GMAC/s mined"), measure_units()
            ),
            "A decoder of one layer, every tensor of its step kept, milliseconds. The share is that of products that "
            "draw tickets in all multiply-accumulates:\n",
            format_table(
                ("width", "tokens", "share", "step", "mined", "mined and traced", "mined / step", "with trace / step"),
                measure_models(),
            ),
            f"One step of the digits, microseconds, medians of {REPEATS} and the distance between quartiles:\n",
            format_table(("part", "µs", "spread", "share", "of training"), measure_step()),
        ]
    )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
