"""The fixed program of one training step: its tensors, its ops in order, its matmuls, and a segment's last ops.

Everything here follows from the spec alone, so that miner, checker and verifier name the same tensor by the same id.
It holds no array and imports none of the libraries that would: it is read by light clients too.
Every tensor is two-dimensional; both operands of a matmul lie by rows along the contraction (C = A x B transposed).
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NewType

from ml.spec import Spec

TensorId = NewType("TensorId", int)


class Dtype(IntEnum):
    """The element types of tensors, by the code that enters a tensor's root; bytes are little-endian."""

    INT8 = 1
    INT32 = 2
    INT64 = 3

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return {Dtype.INT8: 1, Dtype.INT32: 4, Dtype.INT64: 8}[self]


class TensorKind(IntEnum):
    """Where a tensor comes from."""

    STATE = 1
    """Carried into the step: weights and moments (the checkpoint's weights and zero moments at step 0)."""
    CHECKPOINT = 2
    """Weights that the segment started from; read by the delta ops alone."""
    OUTPUT = 3
    """Output of an op."""


class OpKind(IntEnum):
    """What an op computes; `ml.backends.reference` is the definition. A row of tokens is (sequence, position)."""

    BATCH = 1
    """() -> x (batch, in) int32 F16, labels (batch, 1) int32: rows of the training split drawn by the PRF."""
    QUANTISE_ROWS = 2
    """t (rows, columns) int32 -> mantissas (rows, columns) int8 in [-63, 63], exponents (rows, 1) int32."""
    QUANTISE_TRANSPOSED = 3
    """t (groups x rows, columns) int32 -> each group transposed and quantised by its rows: (groups x columns, rows)."""
    LINEAR = 4
    """a (groups x M, K) int8, its exponents, b (groups x N, K) int8, its exponents -> (groups x M, N) int32."""
    RELU = 5
    """z -> max(z, 0), int32."""
    SOFTMAX_XENT_GRADIENT = 6
    """z (rows, classes) int32 F16, labels (rows, 1) -> gradient int32 F24, loss (rows, 1) int32 F16 in bits."""
    RELU_BACKWARD = 7
    """da, z -> da where z > 0, else 0."""
    ADAM = 8
    """w int32 F24, m int32 F20, v int64 F32, g int32 F16 -> w, m, v after the step."""
    DELTA = 9
    """w after, w before -> their difference quantised by rows: int8 in +-127, or in +-7 of 4 bits, exponents int32."""
    WINDOWS = 10
    """() -> tokens (rows, 1) int32, targets (rows, 1) int32: stretches of the training text drawn by the PRF."""
    EMBED = 11
    """tokens, table (vocabulary, width) F24, with learned positions (context, width) F24 too -> x (rows, width) F16."""
    TRANSPOSE = 12
    """t -> its transpose, int32."""
    EMBEDDING_GRADIENT = 13
    """dx transposed (width, rows) F24, tokens -> (vocabulary, width) F16: each token's columns added up, exact."""
    POSITION_GRADIENT = 14
    """dx transposed (width, rows) F24 -> (context, width) F16: each position's columns added up, exact."""
    NORMALISE = 15
    """x (rows, width) F16 -> x over the root of its row's mean square, F16."""
    NORMALISE_BACKWARD = 16
    """dy F24, x F16 -> dx F24."""
    RELU_SQUARED = 17
    """h F16 -> max(h, 0)**2 F16."""
    RELU_SQUARED_BACKWARD = 18
    """da F24, h F16 -> 2 max(h, 0) da F24."""
    ADD = 19
    """a, b -> their saturated sum, int32."""
    SPLIT_HEADS = 20
    """t (rows, parts x width) -> one part by (sequence, head, position): (heads x rows, head width)."""
    MERGE_HEADS = 21
    """one or three tensors by (sequence, head, position) -> (rows, parts x width): the inverse of SPLIT_HEADS."""
    ROTATE = 22
    """t (heads x rows, head width) -> each pair of columns turned by its position's angle, or back."""
    CAUSAL_SOFTMAX = 23
    """scores (heads x rows, context) F16 -> probabilities F24 of positions up to the row's own, else 0."""
    CAUSAL_SOFTMAX_BACKWARD = 24
    """probabilities F24, their gradient F24 -> the scores' gradient F28."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A two-dimensional tensor of the program."""

    id: TensorId
    name: str
    rows: int
    columns: int
    dtype: Dtype
    kind: TensorKind

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements."""
        return self.rows * self.columns * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Op:
    """One op of the program. `inputs` and `outputs` stand in the order of its kind's description."""

    index: int
    kind: OpKind
    layer: int
    inputs: tuple[TensorId, ...]
    outputs: tuple[TensorId, ...]
    is_stochastic: bool = False
    """Quantise ops: round by the PRF of (segment seed, step, op, destination element), not to nearest."""
    shift: int = 0
    """LINEAR: bits that the accumulator is shifted right by, less the two exponents. Sums over tokens: bits dropped."""
    groups: int = 1
    """LINEAR and QUANTISE_TRANSPOSED: independent blocks of rows, one a head of a sequence."""
    is_causal: bool = False
    """LINEAR: elements (i, j) with j > i of a group are zero."""
    part: int = 0
    """SPLIT_HEADS: which third of the columns."""
    is_inverse: bool = False
    """ROTATE: turn back."""


@dataclass(frozen=True, slots=True)
class Matmul:
    """C (M, N) = A (M, K) x B (N, K) transposed, `groups` times: a LINEAR op as lottery and challenges see it."""

    op: int
    M: int
    N: int
    K: int
    a: TensorId
    b: TensorId
    macs: int
    """Multiply-accumulates of all groups; a product of attention counts the positions that a row may see."""
    groups: int = 1
    is_attention: bool = False
    """Of queries, keys, values or their gradients: it draws no tickets."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A trained matrix."""

    name: str
    rows: int
    columns: int
    deviation: int
    """Standard deviation of the first weights, F24."""

    @property
    def count(self) -> int:
        """Number of weights."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Program:
    """The ops of one step, and of a segment's end, with every tensor they name."""

    spec: Spec
    parameters: tuple[Parameter, ...]
    tensors: tuple[Tensor, ...]
    """By id: `tensors[id].id == id`."""
    ops: tuple[Op, ...]
    """Ops of every step, in order: `ops[index].index == index`."""
    delta_ops: tuple[Op, ...]
    """One a parameter, after the last step's ops; their indexes follow on."""
    matmuls: tuple[Matmul, ...]
    state_inputs: tuple[TensorId, ...]
    """All weights in the order of `parameters`, then first moments, then second moments."""
    state_outputs: tuple[TensorId, ...]
    """The same after the step: input i of step s + 1 is output i of step s."""
    checkpoint_weights: tuple[TensorId, ...]
    """Weights of the checkpoint by parameter, as the delta ops name them."""
    loss: TensorId
    """(rows, 1) int32 F16, in bits."""

    @property
    def steps(self) -> int:
        """H: steps of a segment."""
        return self.spec.segment_steps

    @cached_property
    def step_macs(self) -> int:
        """Multiply-accumulates of one step's matmuls."""
        return sum(matmul.macs for matmul in self.matmuls)

    @property
    def segment_macs(self) -> int:
        """Multiply-accumulates of a whole segment."""
        return self.steps * self.step_macs

    @cached_property
    def lottery_matmuls(self) -> tuple[Matmul, ...]:
        """Matmuls of linear layers, whose operands draw tickets."""
        return tuple(matmul for matmul in self.matmuls if not matmul.is_attention)

    @cached_property
    def _matmul_by_op(self) -> dict[int, Matmul]:
        return {matmul.op: matmul for matmul in self.matmuls}

    @cached_property
    def _producers(self) -> dict[TensorId, Op]:
        return {output: op for op in self.ops + self.delta_ops for output in op.outputs}

    def get_step_ops(self, step: int) -> tuple[Op, ...]:
        """Return the ops of `step` in order; the last step of a segment ends with the delta ops."""
        assert 0 <= step < self.steps
        return self.ops + self.delta_ops if step == self.steps - 1 else self.ops

    def get_step_outputs(self, step: int) -> tuple[TensorId, ...]:
        """Return the ids of all tensors that `step` commits, in program order."""
        return tuple(output for op in self.get_step_ops(step) for output in op.outputs)

    def get_op(self, index: int) -> Op:
        """Return the op with this index, delta ops included; raises IndexError."""
        count = len(self.ops)
        return self.ops[index] if index < count else self.delta_ops[index - count]

    def get_matmul(self, op: int) -> Matmul | None:
        """Return the matmul of the op with this index, or None when it is no LINEAR op."""
        return self._matmul_by_op.get(op)

    def get_lottery_matmul(self, op: int) -> Matmul | None:
        """Return the matmul of the op with this index if its operands draw tickets, else None."""
        matmul = self.get_matmul(op)
        return matmul if matmul is not None and not matmul.is_attention else None

    def get_producer(self, tensor: TensorId) -> Op | None:
        """Return the op that makes `tensor`, or None for state and checkpoint tensors."""
        return self._producers.get(tensor)
