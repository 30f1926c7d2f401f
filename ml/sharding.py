"""Cutting one training step among processes: shards of the batch, and what each op asks of the others.

Every process holds the whole state and computes its shard; only ops that read across the batch exchange integers, whose
sums and maxima are exact in any order. Which ops those are follows from the shapes of their tensors: no list names
them. It computes nothing (`ml.sharded_step` does) and knows no process and no wire: an `Exchange` is lent.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache
from itertools import pairwise
from typing import Protocol

from chain.errors import MathesisError
from ml.arithmetic import IntArray
from ml.models import build_program
from ml.program import Op, OpKind, Program
from ml.spec import Spec

Pending = Callable[[], IntArray]
"""Waits for an exchange that is under way and returns its result."""


class ShardingError(MathesisError):
    """A batch cannot be cut as it was asked for."""


class Exchange(Protocol):
    """What the processes of one step can say to each other; all of them start the same exchanges in the same order.

    An array that is given away is not read or written again by its giver. A result is the same in every process.
    """

    @property
    def rank(self) -> int:
        """Return this process's place among all, from 0."""

    @property
    def size(self) -> int:
        """Return how many processes there are."""

    def start_sum(self, x: IntArray) -> Pending:
        """Start adding up the arrays of all processes, element by element, in their own dtype, int32 or int64."""

    def start_max(self, x: IntArray) -> Pending:
        """Start finding the largest of each element among the arrays of all processes, int32 or int64."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a batch that one process computes: examples or sequences."""

    first: int
    count: int


class Placement(IntEnum):
    """What a process holds of a tensor."""

    WHOLE = 0
    """All of it, the same in every process."""
    ROWS = 1
    """The rows of its shard."""
    COLUMNS = 2
    """The columns of its shard."""


class OpClass(IntEnum):
    """How an op is computed by shards."""

    DRAW = 0
    """Draws the whole batch, which is cheap, and keeps the shard's rows."""
    WHOLE = 1
    """Reads whole tensors alone: every process computes all of it."""
    LOCAL = 2
    """An output row (or column, once transposed) reads its own sequence alone: computed on the shard as it is."""
    EXPONENTS = 3
    """Quantises columns that run through the batch: their exponents are the largest of all shards."""
    PRODUCT = 4
    """A matmul that contracts over the batch: the int32 products of the shards are added up, then rescaled."""
    SUMS = 5
    """Adds columns up over the batch, exactly, and rounds once."""


def cut_batch(batch: int, size: int) -> tuple[Shard, ...]:
    """Return `size` shards as even as can be; raises ShardingError when one would be empty."""
    if not 1 <= size <= batch:
        advice = "start fewer processes or choose a larger batch"
        raise ShardingError(f"found {size} processes for a batch of {batch}, expected 1 to {batch}: {advice}")
    bounds = [-(-batch * place // size) for place in range(size + 1)]
    return tuple(Shard(first, after - first) for first, after in pairwise(bounds))


@cache
def _get_placements(spec: Spec) -> tuple[Placement, ...]:
    """Return where each tensor's shape grows with the batch: a batch of two shows it against a batch of one."""
    one, two = (build_program(replace(spec, batch=batch)) for batch in (1, 2))
    placements = []
    for small, large in zip(one.tensors, two.tensors, strict=True):
        grown = large.rows == 2 * small.rows, large.columns == 2 * small.columns
        same = large.rows == small.rows, large.columns == small.columns
        cases = {(True, False): Placement.ROWS, (False, True): Placement.COLUMNS, (False, False): Placement.WHOLE}
        # No tensor has an element for each two rows of the batch: an op's rows are by a sequence, or whole.
        assert grown in cases, small.name
        assert all(a != b for a, b in zip(grown, same, strict=True)), small.name
        placements.append(cases[grown])
    return tuple(placements)


def get_placements(program: Program) -> tuple[Placement, ...]:
    """Return what a process holds of each tensor, by id."""
    return _get_placements(replace(program.spec, batch=1))


def get_op_class(program: Program, op: Op) -> OpClass:
    """Return the one class that `op` falls in, by what is held of its inputs and outputs."""
    placements = get_placements(program)
    inputs, outputs = (tuple(placements[tensor] for tensor in part) for part in (op.inputs, op.outputs))
    rows, columns, whole = Placement.ROWS, Placement.COLUMNS, Placement.WHOLE
    is_sharded = any(inputs)
    is_product = op.kind is OpKind.LINEAR
    rules = {
        OpClass.DRAW: not inputs and set(outputs) == {rows},
        OpClass.WHOLE: bool(inputs) and not is_sharded and not any(outputs),
        OpClass.LOCAL: is_sharded and all(outputs),
        OpClass.EXPONENTS: op.kind is OpKind.QUANTISE_TRANSPOSED and inputs == (rows,) and outputs == (columns, whole),
        OpClass.PRODUCT: is_product and inputs == (columns, whole) * 2 and outputs == (whole,),
        OpClass.SUMS: not is_product and inputs[:1] == (columns,) and outputs == (whole,),
    }
    found = [op_class for op_class in OpClass if rules[op_class]]
    assert len(found) == 1, f"op {op.index} ({op.kind.name}) falls in {found}, expected one class"
    return found[0]


@cache
def _get_op_classes(spec: Spec) -> tuple[OpClass, ...]:
    program = build_program(spec)
    return tuple(get_op_class(program, op) for op in program.ops)


def get_op_classes(program: Program) -> tuple[OpClass, ...]:
    """Return the class of each op of a step, by index."""
    return _get_op_classes(program.spec)
