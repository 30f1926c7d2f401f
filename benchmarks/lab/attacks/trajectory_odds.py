"""How likely a challenge is to find a forgery: computed from where the forgery lies, and measured by drawing places.

Computed: a record's outputs are held against the true ones of its committed inputs, and the share of places whose check
would read a wrong element follows from how checks read (rows, blocks of 128 columns, elements, and for a product the
producers of both rows). Measured: places are drawn and checked by the real code. Neither uses the other.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.lab.attacks.trajectory_bench import PLACES_DRAWN, Segment, get_bench
from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.checks import CheckContext, check_place
from ml.openings import Place, TensorReader, draw_places
from ml.program import Matmul, OpKind, Program, TensorId
from ml.segment import StepTensors, run_op
from ml.tensor_tree import IntArray, TensorTree

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BLOCK_COLUMNS = 128
BY_BLOCK = {OpKind.ADAM, OpKind.RELU, OpKind.RELU_BACKWARD}

Flaws = dict[tuple[int, int], Mask]
"""By (step, op), where the op's check fails: (rows, columns) of its first output, its producers left aside."""


@dataclass(frozen=True, slots=True)
class Odds:
    """Chance that one place finds the forgery."""

    by_macs: float
    by_records: float

    def of_challenge(self, count: int = PLACES_DRAWN) -> float:
        """Return the chance that one of `count` places does; the first and every second one is drawn by MACs."""
        records = count // 2
        return float(1 - (1 - self.by_macs) ** (count - records) * (1 - self.by_records) ** records)


def find_flaws(segment: Segment) -> Flaws:
    """Return where a segment's records do not follow from what they read."""
    flaws: Flaws = {}
    for step, index in sorted(segment.replaced):
        op, tensors = segment.runner.program.get_op(index), segment.steps[step]
        true = run_op(segment.runner, step, op, [tensors[tensor] for tensor in op.inputs])
        differs = [tensors[output] != array for output, array in zip(op.outputs, true, strict=True)]
        if any(mask.any() for mask in differs):
            flaws[step, index] = _spread(op.kind, differs)
    return flaws


def compute_odds(segment: Segment) -> Odds:
    """Return the chances of one place of either kind."""
    program, flaws = segment.runner.program, find_flaws(segment)
    in_matmuls = {
        (step, matmul.op): _compute_matmul_share(program, flaws, step, matmul)
        for step in range(program.steps)
        for matmul in program.matmuls
    }
    macs = {matmul.op: matmul.macs for matmul in program.matmuls}
    shares = {place: float(mask.mean()) for place, mask in flaws.items()} | in_matmuls
    by_macs = sum(macs[op] * share for (_, op), share in in_matmuls.items())
    records = program.steps * len(program.ops) + len(program.delta_ops)
    return Odds(by_macs / program.segment_macs, sum(shares.values()) / records)


def _spread(kind: OpKind, differs: list[Mask]) -> Mask:
    """Return at which places of the first output a check reads one of the differing elements."""
    first = differs[0]
    if kind is OpKind.LINEAR:
        return first
    if kind is OpKind.QUANTISE_TRANSPOSED:
        return first | differs[1]
    if kind in BY_BLOCK:
        found = np.zeros_like(first)
        for start in range(0, first.shape[1], BLOCK_COLUMNS):
            block = slice(start, start + BLOCK_COLUMNS)
            found[:, block] = sum(mask[:, block].any(axis=1, keepdims=True) for mask in differs) > 0
        return found
    rows = np.any([mask.any(axis=1) for mask in differs], axis=0)
    return np.repeat(rows[:, None], first.shape[1], axis=1)


def _compute_matmul_share(program: Program, flaws: Flaws, step: int, matmul: Matmul) -> float:
    """Return the share of (row, column, depth) at which the element or a producer of its operands is wrong."""
    places = [_find_producer(program, step, operand) for operand in (matmul.a, matmul.b)]
    if (step, matmul.op) not in flaws and not any(place in flaws for place in places):
        return 0.0
    sound = [
        _invert(flaws.get(place), (rows, matmul.K)) for place, rows in zip(places, (matmul.M, matmul.N), strict=True)
    ]
    product: F64 = sound[0] @ sound[1].T * _invert(flaws.get((step, matmul.op)), (matmul.M, matmul.N))
    return 1 - float(product.sum()) / (matmul.M * matmul.N * matmul.K)


def _find_producer(program: Program, step: int, operand: TensorId) -> tuple[int, int]:
    producer = program.get_producer(operand)
    assert producer is not None
    return step, producer.index


def _invert(mask: Mask | None, shape: tuple[int, int]) -> F64:
    return np.ones(shape) if mask is None else (~mask).astype(np.float64)


@dataclass(frozen=True, slots=True)
class PlainReader:
    """Gives a check the committed elements without opening them."""

    tensors: StepTensors

    def read(self, tensor: TensorId, row: int, start: int, stop: int) -> IntArray:
        """Return columns of a row."""
        part: IntArray = self.tensors[tensor][row, start:stop]
        return part

    def find_tallest(self, tensor: TensorId, column: int, rows: tuple[int, int]) -> int:
        """Return the row of the largest magnitude."""
        values = self.tensors[tensor][rows[0] : rows[1], column].astype(np.int64)
        return rows[0] + int(np.abs(values).argmax())


def draw_challenges(seed: int, count: int) -> Iterator[Hash]:
    """Yield the challenges of `count` later beacons."""
    for number in range(count):
        yield tagged_hash("challenge", seed.to_bytes(8, "little"), number.to_bytes(8, "little"))


def count_detected(segment: Segment, challenges: Iterator[Hash], count: int = PLACES_DRAWN) -> tuple[int, int]:
    """Return (challenges, those that found the forgery), by checking `count` places each."""
    context = CheckContext(segment.runner.program, segment.runner.dataset, segment.runner.segment_seed)
    tried = detected = 0
    for challenge in challenges:
        tried += 1
        places = draw_places(context.program, challenge, count)
        detected += any(is_refused(context, segment, place) for place in places)
    return tried, detected


def is_refused(context: CheckContext, segment: Segment, place: Place) -> bool:
    """Say whether the check at `place` fails on the committed tensors."""
    try:
        check_place(context, place, PlainReader(segment.steps[place.step]))
    except InvalidProof:
        return True
    return False


def answer_challenge(segment: Segment, challenge: Hash) -> tuple[bytes, ...]:
    """Return the best openings a cheat has: of all its tensors as committed, whether or not the ops hold."""
    program = segment.runner.program
    context = CheckContext(program, segment.runner.dataset, segment.runner.segment_seed)
    trees: dict[int, dict[TensorId, TensorTree]] = {}
    openings = []
    for place in draw_places(program, challenge, PLACES_DRAWN):
        reader = TensorReader(program, segment.steps[place.step], trees.setdefault(place.step, {}))
        with suppress(InvalidProof):
            check_place(context, place, reader)
        openings.append(reader.encode())
    return tuple(openings)


def is_answer_accepted(segment: Segment, challenge: Hash) -> bool:
    """Say whether a validator takes those openings, as it does when a block holds them."""
    bench = get_bench()
    context = bench.make_context(Hash(segment.runner.segment_seed))
    try:
        bench.learning.verify_openings(
            bench.spec, context, segment.sidecar, challenge, answer_challenge(segment, challenge)
        )
    except InvalidProof:
        return False
    return True


def is_execution_agreed(segment: Segment) -> bool:
    """Say whether re-execution, as at settlement, gives the segment."""
    bench = get_bench()
    context = bench.make_context(Hash(segment.runner.segment_seed))
    return bench.learning.is_segment_honest(bench.spec, context, segment.sidecar)
