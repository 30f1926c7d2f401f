"""`python -m benchmarks.tickets`: bytes of a ticket's opening, and what a light client and a node pay to check it.

By length of the contraction, and by size of the model at one length: the second must not matter. Operands are random, a
digest is computed at the last whole tile and shown under a target that everything meets, so no mining is needed. The
implementations take turns within one run. A check is one thread's work, so its processor time is counted: others at
work on the machine do not show. Writes benchmarks/results/tickets.md.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.lab.records import describe_machine
from chain.codec import decode, encode
from chain.primitives import U256_MAX, Hash
from chain.ticket import EMPTY_TICKET, Ticket, TicketOpening
from consensus.ticket import (
    Draw,
    Operands,
    compute_ticket_seed,
    compute_ticket_shape,
    get_place,
    open_ticket,
    verify_ticket,
)
from ml.backends import reference_ticket
from ml.lottery import Lottery, get_lottery
from ml.models import build_program
from ml.noise import I8, TILE, WINDOW, MatmulShape, Place
from ml.program import Dtype, Program
from ml.spec import DIGITS, WEIGHTS_MAX, Decoder, Positions, Spec, count_weights, validate_spec
from ml.tensor_tree import TensorShape, compute_tensor_root, verify_strip
from node.models.specs import find_spec

RESULTS = Path(__file__).parent / "results" / "tickets.md"
REPEATS = 501
OPENING_BYTES_MAX = 256 * 1024
PRODUCT = 1024
"""Rows and columns of the product in the table by K."""
CONTRACTIONS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384)
TOKENS = 128
"""One sequence a batch: a decoder's weight gradients then have the K of the digits' hidden layer."""
DRAW = Draw(Hash(bytes(32)), Hash(b"\x01" * 32), Hash(b"\x02" * 32), U256_MAX)
LOTTERIES = ("reference", "cpu")
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A ticket that verifies, its opening as it travels, and how its shape is found."""

    ticket: Ticket
    opening: bytes
    get_shape: Callable[[], MatmulShape]


def make_case(shape: MatmulShape, get_shape: Callable[[], MatmulShape], op: int = 0) -> Case:
    """Return a ticket in the last whole tile and the first window of random operands."""
    rng = np.random.default_rng(shape.K)
    a, bt = (rng.integers(-63, 63, (rows, shape.K), np.int8, endpoint=True) for rows in (shape.M, shape.N))
    roots = compute_tensor_root(a), compute_tensor_root(bt)
    place = Place(shape.tile_rows - 1, shape.tile_columns - 1, 0)
    seed = compute_ticket_seed(DRAW, Operands(0, op, 0, shape, *roots))
    rows_a, rows_b = _cut(a, place.tile_row, shape), _cut(bt, place.tile_column, shape)
    ticket = replace(
        EMPTY_TICKET,
        op=op,
        tile_row=place.tile_row,
        tile_column=place.tile_column,
        root_a=roots[0],
        root_b=roots[1],
        digest=reference_ticket.compute_ticket_digest(seed, shape, place, rows_a, rows_b),
    )
    return Case(ticket, encode(open_ticket(ticket, a, bt)), get_shape)


def _cut(operand: I8, tile: int, shape: MatmulShape) -> I8:
    return operand[tile * TILE : (tile + 1) * TILE, : min(WINDOW, shape.get_window_columns(0))]


def check(case: Case, lottery: Lottery) -> None:
    """Do what a verifier does with the bytes of an opening: decode, find the shape, verify."""
    verify_ticket(case.ticket, decode(TicketOpening, case.opening, OPENING_BYTES_MAX), case.get_shape(), DRAW, lottery)


def measure_us(functions: tuple[Callable[[], object], ...], repeats: int = REPEATS) -> list[tuple[float, float, float]]:
    """Return of each, called in turn: the median in µs, the distance between the quartiles, and the least."""
    samples: list[list[float]] = [[] for _ in functions]
    for turn in range(repeats + 3):
        for function, taken in zip(functions, samples, strict=True):
            start_ns = time.thread_time_ns()
            function()
            if turn >= 3:
                taken.append((time.thread_time_ns() - start_ns) / 1000)
    quartiles = [statistics.quantiles(taken, n=4) for taken in samples]
    return [(median, high - low, min(taken)) for (low, median, high), taken in zip(quartiles, samples, strict=True)]


def measure_case(case: Case) -> Row:
    """Return bytes of the opening, and median, spread and least of each implementation."""
    found = measure_us(tuple(partial(check, case, get_lottery(name)) for name in LOTTERIES))
    return f"{len(case.opening):,}", *(f"{value:.0f}" for taken in found for value in taken)


def measure_contractions() -> list[Row]:
    """Return a row for each K: columns and strips that a ticket covers, then `measure_case`."""
    rows = []
    for depth in CONTRACTIONS:
        shape = MatmulShape(PRODUCT, PRODUCT, depth)
        case = make_case(shape, lambda shape=shape: shape)  # type: ignore[misc]  # a bound loop name
        columns = shape.get_window_columns(0)
        rows.append((f"{depth:,}", f"{columns:,}", str(shape.rank), *measure_case(case)))
    return rows


def measure_parts() -> list[Row]:
    """Return a row for each part of a check at K = 1,024."""
    shape = MatmulShape(PRODUCT, PRODUCT, PRODUCT)
    case = make_case(shape, lambda: shape)
    ticket, opening = case.ticket, decode(TicketOpening, case.opening, OPENING_BYTES_MAX)
    strip, tensor, place = opening.strips_a[0], TensorShape(PRODUCT, PRODUCT, Dtype.INT8), get_place(ticket)
    rows_a, rows_b = (np.frombuffer(each.rows, np.int8).reshape(TILE, -1) for each in (strip, opening.strips_b[0]))
    seed = compute_ticket_seed(DRAW, Operands(0, 0, 0, shape, ticket.root_a, ticket.root_b))
    lotteries = [get_lottery(name) for name in LOTTERIES]
    parts: dict[str, list[Callable[[], object]]] = {
        "decode the opening": [partial(decode, TicketOpening, case.opening, OPENING_BYTES_MAX)] * 2,
        "hash a strip and its path (of two)": [
            partial(verify_strip, ticket.root_a, tensor, (place.tile_row, 0), strip.rows, strip.path, hash_rows)
            for hash_rows in (each.hash_strip_rows for each in lotteries)
        ],
        "noise, folds, digest": [
            partial(each.compute_ticket_digest, seed, shape, place, rows_a, rows_b) for each in lotteries
        ],
        "all but decoding": [partial(verify_ticket, ticket, opening, shape, DRAW, each) for each in lotteries],
    }
    return [
        (name, *(f"{value:.0f}" for taken in measure_us(tuple(functions)) for value in taken))
        for name, functions in parts.items()
    ]


def make_specs() -> list[tuple[str, Spec]]:
    """Return the digits and ever larger decoders, up to the largest that a spec may name."""
    plays = replace(find_spec("plays").spec, batch=1)
    models = {
        "plays": plays.model,
        "decoder, width 1,024, 8 layers": Decoder(256, TOKENS, 1024, 8, 8, 4096, int(Positions.ROTARY), 0),
        "decoder, width 1,024, 170 layers": Decoder(256, TOKENS, 1024, 170, 8, 4096, int(Positions.ROTARY), 0),
        "decoder, width 8,192, 2 layers": Decoder(8192, TOKENS, 8192, 2, 64, 40_960, int(Positions.ROTARY), 1),
    }
    specs = [("digits", DIGITS), *((name, replace(plays, model=model)) for name, model in models.items())]
    for _, spec in specs:
        validate_spec(spec)
    return specs


def measure_models() -> list[Row]:
    """Return a row for each spec: weights, ops, the product whose ticket is checked, then `measure_case`."""
    rows = []
    for name, spec in make_specs():
        program = build_program(spec)
        matmul = max((m for m in program.lottery_matmuls if m.K == TOKENS), key=lambda m: m.M * m.N)
        shape = compute_ticket_shape(program, 0, matmul.op)
        case = make_case(shape, partial(compute_ticket_shape, program, 0, matmul.op), matmul.op)
        product = f"{shape.M:,} x {shape.N:,}"
        rows.append((name, f"{count_weights(spec.model):,}", f"{count_ops(program):,}", product, *measure_case(case)))
    return rows


def count_ops(program: Program) -> int:
    """Return the ops of a step."""
    return len(program.ops)


def render(head: Row, rows: list[Row]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


def main() -> None:
    """Measure, write the page and print it."""
    times = ("light client, µs", "spread", "least", "node, µs", "spread", "least")
    costs = ("opening, bytes", *times)
    page = f"""# Tickets: what a check costs

`python -m benchmarks.tickets` on {describe_machine()}, load average {os.getloadavg()[0]:.1f} at the start.
Processor time of the one thread that checks: medians of {REPEATS}, the distance between quartiles, and the least. A
check decodes the opening, finds the shape, and verifies: threshold, strips and paths, range, noise, folds, digest. A
light client runs the reference (NumPy and BLAKE3), a node the compiled twin of strips, noise and folds; neither holds a
weight.

By length of the contraction, for a product of {PRODUCT:,} x {PRODUCT:,}:

{render(("K", "columns of the window", "rank", *costs), measure_contractions())}

A ticket covers one window of at most {WINDOW:,} columns, so beyond that the cost stays.

Where the time goes at K = {PRODUCT:,}, each part by itself:

{render(("part", *times), measure_parts())}

By model, at K = {TOKENS}: the largest weight gradient of a step with {TOKENS} tokens, for digits the largest product of
that K. The last two are near the {WEIGHTS_MAX:,} weights that a spec may have:

{render(("spec", "weights", "ops of a step", "product", *costs), measure_models())}

What grows is a path: one digest for each doubling of an operand's rows.
"""
    RESULTS.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
