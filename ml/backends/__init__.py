"""One interface to the ops of training, and the backends that compute them, byte for byte alike.

`reference` is the authority and needs NumPy alone; the others are compiled and are imported only when asked for.
A backend holds no state of training and knows no program: it computes the op it is given.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ml.arithmetic import I8, I32, I64

Quantised = tuple[I8, I32]
"""Mantissas (rows, columns) int8 and exponents (rows, 1) int32: value = mantissa * 2**exponent."""

AdamState = tuple[I32, I32, I64]
"""Weights F24, first moments F20, second moments F32."""

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Rounding:
    """Stochastic rounding: the op's key, and where the array's first element stands in the op's whole output."""

    key: int
    row: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Heads:
    """How the rows of a batch and the columns of a model split into attention heads."""

    context: int
    """Rows of one sequence."""
    heads: int
    width: int
    """Columns of one head."""


@dataclass(frozen=True, slots=True)
class Groups:
    """The attributes of a grouped product: independent blocks of rows, and whether only j <= i is computed."""

    groups: int
    shift: int
    is_causal: bool


class Backend(Protocol):
    """The ops of a program; shapes are those of `ml.program.OpKind`. Without a rounding, values round to nearest."""

    @property
    def name(self) -> str:
        """Return the name that `get_backend` knows it by."""

    def draw_batch(self, x: I32, labels: I32, key: int, batch: int) -> tuple[I32, I32]:
        """Return `batch` rows drawn with replacement from x (n, in) int32 F16 and labels (n, 1) int32."""

    def draw_windows(self, stream: U8, key: int, batch: int, context: int) -> tuple[I32, I32]:
        """Return tokens and targets (batch * context, 1) int32 of stretches drawn from a text (n,) uint8."""

    def quantise_rows(self, x: I32, rounding: Rounding | None = None) -> Quantised:
        """Return the rows of x (rows, columns) int32 as 7-bit mantissas and an exponent a row."""

    def quantise_transposed(
        self, x: I32, rounding: Rounding | None = None, groups: int = 1, exponents: I32 | None = None
    ) -> Quantised:
        """Return `quantise_rows` of each group's transpose: (groups * columns, rows // groups).

        `exponents` (groups * columns, 1), none below its column's own, replace those of the columns: for x that is part
        of a taller tensor.
        """

    def compute_column_exponents(self, x: I32) -> I32:
        """Return the exponents that `quantise_transposed` of one group gives: (columns, 1) int32."""

    def quantise_delta(self, after: I32, before: I32, bits: int) -> Quantised:
        """Return after - before by rows as mantissas of 8 or 4 bits, in +-127 or +-7, and an exponent a row."""

    def multiply(self, a: I8, b: I8) -> I32:
        """Return a (M, K) int8 times b (N, K) int8 transposed, exact: (M, N) int32, K < 2**17."""

    def rescale(self, product: I32, a_exponents: I32, b_exponents: I32, shift: int) -> I32:
        """Return product (M, N) / 2**(shift - a_exponent - b_exponent), rounded and saturated."""

    def multiply_groups(self, a: Quantised, b: Quantised, groups: Groups) -> I32:
        """Return the rescaled product of each group: a (groups * M, K), b (groups * N, K) -> (groups * M, N) int32."""

    def relu(self, z: I32) -> I32:
        """Return max(z, 0)."""

    def relu_backward(self, gradient: I32, z: I32) -> I32:
        """Return gradient where z > 0, else 0."""

    def relu_squared(self, h: I32) -> I32:
        """Return max(h, 0)**2, F16."""

    def relu_squared_backward(self, gradient: I32, h: I32) -> I32:
        """Return 2 max(h, 0) gradient, F24."""

    def add(self, a: I32, b: I32) -> I32:
        """Return a + b, saturated."""

    def normalise(self, x: I32) -> I32:
        """Return x over the root of its row's mean square, F16."""

    def normalise_backward(self, gradient: I32, x: I32) -> I32:
        """Return the gradient of `normalise`'s input F24 from that of its output F24."""

    def embed(self, tokens: I32, tables: tuple[I32, ...]) -> I32:
        """Return a row of tables[0] for each token, plus a row of tables[1], if given, for its position; F16."""

    def transpose(self, x: I32) -> I32:
        """Return x transposed, laid out by rows."""

    def compute_embedding_gradient(self, transposed: I32, tokens: I32, vocabulary: int, shift: int) -> I32:
        """Return for each token the sum of its columns of `transposed` (width, rows), shifted: (vocabulary, width)."""

    def compute_position_gradient(self, transposed: I32, context: int, shift: int) -> I32:
        """Return for each position the sum of its columns of `transposed` (width, rows), shifted: (context, width)."""

    def split_heads(self, x: I32, part: int, heads: Heads) -> I32:
        """Return one part of x (rows, parts * model width) by (sequence, head, position)."""

    def merge_heads(self, parts: tuple[I32, ...], heads: Heads) -> I32:
        """Return the parts side by side, by rows: the inverse of `split_heads`."""

    def rotate(self, x: I32, table: tuple[I32, I32], is_inverse: bool) -> I32:
        """Return x (groups * context, head width) with columns j and j + half turned by (cosines, sines) F30."""

    def causal_softmax(self, scores: I32, head_width: int) -> I32:
        """Return softmax(scores / sqrt(head_width)) of the positions a row may see, F24."""

    def causal_softmax_backward(self, probabilities: I32, gradient: I32, head_width: int) -> I32:
        """Return the gradient of the scores, F28."""

    def compute_loss_gradient(self, z: I32, labels: I32) -> tuple[I32, I32]:
        """Return softmax(z) - onehot (rows, classes) int32 F24 and the loss (rows, 1) int32 F16 in bits."""

    def update_adam(self, state: AdamState, gradient: I32, step: int, rate: int, decay: int) -> AdamState:
        """Return weights and moments after one step with gradient int32 F16.

        `rate` and `decay` are in units of 2**-32; rate < 2**29, decay <= 2**32.
        """


def get_backend(name: str) -> Backend:
    """Return the backend called "reference", "cpu" or "cuda"; raises ValueError for another name.

    "cuda" raises `ml.backends.cuda.device.DeviceMissing` where there is no device, ImportError where torch or Triton is
    not installed.
    """
    if name == "reference":
        from ml.backends.reference import ReferenceBackend  # noqa: PLC0415

        return ReferenceBackend()
    if name == "cpu":
        from ml.backends.cpu.backend import CpuBackend  # noqa: PLC0415 - a light client has no Numba

        return CpuBackend()
    if name == "cuda":
        from ml.backends.cuda.backend import CudaBackend  # noqa: PLC0415 - needs torch and Triton

        return CudaBackend()
    raise ValueError(f"found backend {name!r}, expected 'reference', 'cpu' or 'cuda'")
