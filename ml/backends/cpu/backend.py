"""The compiled backend: the ops of training by fused Numba kernels, equal to the reference byte for byte.

It chooses the kernel of each op and holds no arithmetic of its own.
"""

from dataclasses import dataclass

import numpy as np

from ml.arithmetic import I8, I32, I64, compute_bias_correction, get_exp2_table
from ml.backends.cpu import elementwise, matmul, quantise
from ml.backends.cpu.quantise import Quantised


@dataclass(frozen=True, slots=True)
class CpuBackend:
    """`ml.backends.Backend` in Numba, with torch for large products."""

    @property
    def name(self) -> str:
        """Return "cpu"."""
        return "cpu"

    def draw_batch(self, x: I32, labels: I32, key: int, batch: int) -> tuple[I32, I32]:
        """Return the rows whose indexes are (prf * n) >> 64."""
        return elementwise.draw_batch(x, labels, np.uint64(key), batch)

    def quantise_rows(self, x: I32, key: int | None = None) -> Quantised:
        """Return mantissas in [-63, 63] and exponents of the rows."""
        if key is None:
            return quantise.quantise_rows(x)
        return quantise.quantise_rows_stochastic(x, np.uint64(key))

    def quantise_transposed(self, x: I32, key: int | None = None) -> Quantised:
        """Return mantissas in [-63, 63] and exponents of the columns, as rows."""
        if key is None:
            return quantise.quantise_transposed(x)
        return quantise.quantise_transposed_stochastic(x, np.uint64(key))

    def quantise_delta(self, after: I32, before: I32) -> Quantised:
        """Return mantissas in [-127, 127] and exponents of the rows of after - before."""
        return quantise.quantise_delta(after, before)

    def multiply(self, a: I8, b: I8) -> I32:
        """Return a (M, K) times b (N, K) transposed, exact."""
        return matmul.multiply(a, b)

    def rescale(self, product: I32, a_exponents: I32, b_exponents: I32, shift: int) -> I32:
        """Return the product shifted by both exponents."""
        return elementwise.rescale(product, a_exponents, b_exponents, shift)

    def relu(self, z: I32) -> I32:
        """Return max(z, 0)."""
        return elementwise.relu(z)

    def relu_backward(self, gradient: I32, z: I32) -> I32:
        """Return gradient where z > 0, else 0."""
        return elementwise.relu_backward(gradient, z)

    def compute_loss_gradient(self, z: I32, labels: I32) -> tuple[I32, I32]:
        """Return softmax - onehot and the loss of each row."""
        return elementwise.compute_loss_gradient(z, labels, get_exp2_table())

    def update_adam(
        self, state: tuple[I32, I64, I64], gradient: I32, step: int, rate: int, decay: int
    ) -> tuple[I32, I64, I64]:
        """Return w, m, v after one step."""
        return elementwise.update_adam(state, gradient, compute_bias_correction(step), rate, decay)
