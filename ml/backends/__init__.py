"""One interface to the ops of training, and the backends that compute them, byte for byte alike.

`reference` is the authority and needs NumPy alone; `cpu` is compiled and is imported only when it is asked for.
A backend holds no state and knows no program: it computes the op it is given.
"""

from typing import Protocol

from ml.arithmetic import I8, I32, I64

Quantised = tuple[I8, I32]
"""Mantissas (rows, columns) int8 and exponents (rows, 1) int32: value = mantissa * 2**exponent."""


class Backend(Protocol):
    """The ops of a program. A `key` is the u64 of `ml.prf.compute_key`; None rounds to nearest."""

    @property
    def name(self) -> str:
        """Return the name that `get_backend` knows it by."""

    def draw_batch(self, x: I32, labels: I32, key: int, batch: int) -> tuple[I32, I32]:
        """Return `batch` rows drawn with replacement from x (n, in) int32 F16 and labels (n, 1) int32."""

    def quantise_rows(self, x: I32, key: int | None = None) -> Quantised:
        """Return the rows of x (rows, columns) int32 as 7-bit mantissas and an exponent a row."""

    def quantise_transposed(self, x: I32, key: int | None = None) -> Quantised:
        """Return `quantise_rows` of x transposed: (columns, rows) int8, (columns, 1) int32."""

    def quantise_delta(self, after: I32, before: I32) -> Quantised:
        """Return after - before by rows as 8-bit mantissas in [-127, 127] and an exponent a row."""

    def multiply(self, a: I8, b: I8) -> I32:
        """Return a (M, K) int8 times b (N, K) int8 transposed, exact: (M, N) int32, K < 2**17."""

    def rescale(self, product: I32, a_exponents: I32, b_exponents: I32, shift: int) -> I32:
        """Return product (M, N) / 2**(shift - a_exponent - b_exponent), rounded and saturated."""

    def relu(self, z: I32) -> I32:
        """Return max(z, 0)."""

    def relu_backward(self, gradient: I32, z: I32) -> I32:
        """Return gradient where z > 0, else 0."""

    def compute_loss_gradient(self, z: I32, labels: I32) -> tuple[I32, I32]:
        """Return softmax(z) - onehot (batch, classes) int32 F20 and the loss (batch, 1) int32 F16 in bits."""

    def update_adam(
        self, state: tuple[I32, I64, I64], gradient: I32, step: int, rate: int, decay: int
    ) -> tuple[I32, I64, I64]:
        """Return (w int32 F24, m int64 F24, v int64 F32) after one step with gradient int32 F16.

        `rate` and `decay` are in units of 2**-32, below 2**29.
        """


def get_backend(name: str) -> Backend:
    """Return the backend called "reference" or "cpu"; raises ValueError for another name."""
    if name == "reference":
        from ml.backends.reference import ReferenceBackend  # noqa: PLC0415

        return ReferenceBackend()
    if name == "cpu":
        from ml.backends.cpu.backend import CpuBackend  # noqa: PLC0415 - a light client has no Numba

        return CpuBackend()
    raise ValueError(f"found backend {name!r}, expected 'reference' or 'cpu'")
