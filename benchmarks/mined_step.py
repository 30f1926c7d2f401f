"""`python -m benchmarks.mined_step`: what mining adds to a training step, and what verifying a ticket costs.

Digits at full size, the parts of a step side by side in one run; then tickets by length of the contraction. Writes
the tables, with the machine they were measured on, to benchmarks/results/mined_step.md.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from chain.codec import encode
from chain.hashing import tagged_hash
from chain.primitives import U256_MAX, Hash
from chain.ticket import EMPTY_TICKET, Ticket, TicketOpening
from consensus.ticket import (
    Draw,
    Operands,
    compute_thresholds,
    compute_ticket_seed,
    open_ticket,
    verify_ticket,
)
from ml.backends import get_backend
from ml.backends.cpu import ticket as kernels
from ml.backends.cpu.blake3 import KEYED, get_key_words, hash_chunks
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import load_digits
from ml.lottery import get_lottery
from ml.models import build_program
from ml.noise import I8, MatmulShape
from ml.segment import Runner, as_i8, compute_initial_state, run_step
from ml.spec import DIGITS
from ml.tensor_tree import compute_tensor_root
from ml.trace import compute_step_roots

RESULTS = Path(__file__).parent / "results" / "mined_step.md"
REPEATS = 51
CONTRACTIONS = (64, 128, 1024)
SEED = Hash(bytes(32))
Row = tuple[str, ...]


def measure_us(function: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Return the median microseconds of one call and the distance between its quartiles."""
    function()
    samples = []
    for _ in range(repeats):
        start_ns = time.perf_counter_ns()
        function()
        samples.append((time.perf_counter_ns() - start_ns) / 1000)
    low, median, high = statistics.quantiles(samples, n=4)
    return median, high - low


def measure_step() -> list[Row]:
    """Return the parts of one mined step: name, microseconds, spread, share of the whole."""
    program, backend = build_program(DIGITS), get_backend("cpu")
    runner = Runner(program, backend, load_digits(DIGITS.heldout), SEED, compute_initial_checkpoint(program))
    state = compute_initial_state(program, runner.checkpoint)
    tensors = run_step(runner, 0, state)
    operands = [(as_i8(tensors[matmul.a]), as_i8(tensors[matmul.b])) for matmul in program.matmuls]
    operands = [(a, bt) for a, bt in operands if min(*a.shape, bt.shape[0]) >= 32]
    parts = {
        "training": measure_us(partial(run_step, runner, 0, state)),
        "trace commitment": measure_us(partial(compute_step_roots, program, 0, tensors, compute_tensor_roots)),
        "noise": measure_us(partial(_each, operands, _add_noise)),
        "ticket hashing": measure_us(partial(_each, operands, _hash_tickets)),
    }
    kernel, mined = (measure_us(partial(_each, operands, run)) for run in (_run_kernel, _mine))
    known = parts["noise"][0] + parts["ticket hashing"][0]
    parts["tiles and folds"] = kernel[0] - known, kernel[1]
    parts["the rest (seeds, arrays, calls)"] = mined[0] - kernel[0], mined[1]
    whole = sum(median for median, _ in parts.values())
    parts["mined step"] = whole, 0.0
    return [
        (
            name,
            f"{median:.0f}",
            f"{spread:.0f}",
            f"{100 * median / whole:.0f} %",
            f"{median / parts['training'][0]:.2f}",
        )
        for name, (median, spread) in parts.items()
    ]


def _each(operands: list[tuple[I8, I8]], function: Callable[[I8, I8], object]) -> None:
    for a, bt in operands:
        function(a, bt)


def _add_noise(a: I8, bt: I8) -> None:
    shape, key_u32 = _get_shape(a, bt), get_key_words(SEED)
    for rows, roles in ((a, (97, 65)), (bt, (98, 66))):
        noised_i16 = kernels.noise_operand_kernel(key_u32, roles, (shape.rank, shape.noised_columns), rows)
        kernels.pack_pairs_kernel(noised_i16)


def _hash_tickets(a: I8, bt: I8) -> None:
    shape = _get_shape(a, bt)
    count = shape.tile_columns * shape.windows
    tickets_u8, digests_u8 = np.zeros(count * kernels.TICKET_BYTES, np.uint8), np.empty((count, 32), np.uint8)
    starts_i64 = np.arange(count) * kernels.TICKET_BYTES
    for _ in range(shape.tile_rows):
        hash_chunks(get_key_words(SEED), KEYED, tickets_u8, starts_i64, kernels.TICKET_BYTES, digests_u8)


def _run_kernel(a: I8, bt: I8) -> None:
    shape = _get_shape(a, bt)
    digests_u8 = np.empty((shape.tile_rows, shape.tile_columns, shape.windows, 32), np.uint8)
    plan, product_i32 = (shape.rank, shape.noised_columns), np.empty((shape.M, shape.N), np.int32)
    kernels.mine_kernel(get_key_words(SEED), plan, a, bt, digests_u8, product_i32)


def _mine(a: I8, bt: I8) -> None:
    operands = Operands(0, 0, 0, _get_shape(a, bt), SEED, SEED)
    seed = compute_ticket_seed(Draw(SEED, SEED, SEED, 1), operands)
    kernels.mine_matmul(seed, a, bt, compute_thresholds(1, operands.shape))


def _get_shape(a: I8, bt: I8) -> MatmulShape:
    return MatmulShape(a.shape[0], bt.shape[0], a.shape[1])


def measure_tickets() -> list[Row]:
    """Return, by contraction, the time to verify a ticket with either implementation and its opening's bytes."""
    rows = []
    for columns in CONTRACTIONS:
        shape = MatmulShape(1024, 1024, columns)
        draw = Draw(SEED, SEED, tagged_hash("benchmark", b"ticket"), U256_MAX >> 20)
        ticket, opening = _win(shape, draw)
        cells = [f"{columns}", f"{len(encode(opening))}"]
        for name in ("cpu", "reference"):
            median, spread = measure_us(partial(verify_ticket, ticket, opening, shape, draw, get_lottery(name)))
            cells += [f"{median:.0f}", f"{spread:.0f}"]
        rows.append(tuple(cells))
    return rows


def _win(shape: MatmulShape, draw: Draw) -> tuple[Ticket, TicketOpening]:
    rng = np.random.default_rng(0)
    a, bt = (rng.integers(-63, 63, (rows, shape.K), np.int8, endpoint=True) for rows in (shape.M, shape.N))
    root_a, root_b = compute_tensor_root(a), compute_tensor_root(bt)
    seed = compute_ticket_seed(draw, Operands(0, 0, 0, shape, root_a, root_b))
    found, _ = kernels.mine_matmul(seed, a, bt, compute_thresholds(draw.target, shape))
    place, digest = found[0].place, found[0].digest
    ticket = replace(EMPTY_TICKET, tile_row=place.tile_row, tile_column=place.tile_column, window=place.window)
    ticket = replace(ticket, root_a=root_a, root_b=root_b, digest=digest)
    return ticket, open_ticket(ticket, a, bt)


def measure_matmuls() -> list[Row]:
    """Return, by size of a square matmul, the milliseconds to mine it and to take the noise out, and the rate."""
    rows = []
    for size in (128, 512, 1024):
        a = np.random.default_rng(size).integers(-63, 63, (size, size), np.int8, endpoint=True)
        mined, _ = measure_us(partial(kernels.mine_matmul, SEED, a, a, (0,)), 11)
        product_i32 = kernels.mine_matmul(SEED, a, a, (0,))[1]
        denoised, _ = measure_us(partial(kernels.denoise_product, SEED, a, a, product_i32), 11)
        plain, _ = measure_us(partial(get_backend("cpu").multiply, a, a), 11)
        times = [f"{time_us / 1000:.2f}" for time_us in (mined, denoised, plain)]
        rows.append((f"{size}", *times, f"{(mined + denoised) / plain:.1f}", f"{size**3 / mined / 1000:.0f}"))
    return rows


def format_table(header: Row, rows: list[Row]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _describe_machine() -> str:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    load = os.getloadavg()[0]
    return f"{len(names)} x {names[0]}, Python {platform.python_version()}, load average {load:.1f} at the start\n"


def main() -> None:
    """Print the tables and write them beside this module."""
    text = "\n".join(
        [
            "# A mined step and its tickets\n",
            _describe_machine(),
            "One step of the digits task, median and quartile distance of "
            f"{REPEATS} runs; every matmul that holds a ticket is mined once.\n",
            format_table(("part", "µs", "spread", "share", "of training"), measure_step()),
            "Verifying one ticket of a 1024 x 1024 product:\n",
            format_table(("K", "opening, bytes", "cpu, µs", "spread", "reference, µs", "spread"), measure_tickets()),
            "Square matmuls on one thread, in milliseconds:\n",
            format_table(
                ("size", "mined", "noise taken out", "plain int8", "ratio", "GMAC/s mined"), measure_matmuls()
            ),
        ]
    )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
