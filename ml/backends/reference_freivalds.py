"""Freivalds residues in plain NumPy: what says whether C = A x B transposed without multiplying A by B.

For two vectors v the residue of a row of C is C v - A (B^T v) modulo the prime 2**31 - 1: zero in every row of a right
product, and in a wrong row with a chance of p**-1 a vector. It draws no vector and knows no transcript.
Source: Freivalds 1977, "Probabilistic machines can use less running time".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ml.arithmetic import I8, I32, I64, MANTISSA_MAX

MODULUS = 2**31 - 1
VECTORS = 2
OUT_OF_RANGE = -1
"""Residue of a row that holds an element no product of this depth has."""


@dataclass(frozen=True, slots=True)
class Product:
    """Operands and claimed exact product: a (groups * M, K), b (groups * N, K), c (groups * M, N)."""

    a: I8
    b: I8
    c: I32
    groups: int = 1

    @property
    def bound(self) -> int:
        """Return the largest magnitude that an element of the product can have.

        Twice this is below p for K < 2**17: two values in range that differ, differ modulo p too.
        """
        return int(self.a.shape[1]) * MANTISSA_MAX**2


ComputeResidues: TypeAlias = Callable[[Product, I64], I64]
"""Returns the residues (groups * M, 2) int64 for vectors (2, N) int64 in [0, p), all groups with the same."""


def compute_residues(product: Product, vectors: I64) -> I64:
    """Return the residues of every row: (groups * M, 2) int64 in [0, p), or OUT_OF_RANGE."""
    groups = product.groups
    parts = zip(*(np.split(part.astype(np.int64), groups) for part in (product.a, product.b, product.c)), strict=True)
    residues = np.concatenate([_compute_group(a, b, c, vectors) for a, b, c in parts])
    is_outside = np.abs(product.c.astype(np.int64)).max(axis=1) > product.bound
    residues[is_outside] = OUT_OF_RANGE
    return residues


def _compute_group(a: I64, b: I64, c: I64, vectors: I64) -> I64:
    # |operand| <= 2**7, an entry < 2**31 and K, N < 2**17: sums stay below 2**55, and products of c below 2**62.
    columns = [(b * entries[:, None]).sum(axis=0) % MODULUS for entries in vectors]
    rows = [
        (c * entries % MODULUS).sum(axis=1) - (a * w).sum(axis=1) for entries, w in zip(vectors, columns, strict=True)
    ]
    return np.stack(rows, axis=1) % MODULUS
