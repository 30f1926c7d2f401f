"""`python -m tests.support.warm`: compile the kernels that tests use beside a node's, once for all workers."""

import sys

import numpy as np

from ml.backends.batched_checks import Verdicts
from ml.backends.cpu import checks
from ml.backends.cpu.freivalds import compute_residues
from ml.backends.reference_freivalds import Product
from tests.support.batches import CASES


def warm_checks() -> list[Verdicts]:
    return [checks.verify(make().batch) for make in CASES.values()]


def warm_freivalds() -> None:
    ones = np.ones((8, 64), np.int8)
    compute_residues(Product(ones, ones, np.full((8, 8), 64, np.int32)), np.ones((2, 8), np.int64))


def main() -> int:
    warm_checks()
    warm_freivalds()
    print("kernels: checks of openings and of steps", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
