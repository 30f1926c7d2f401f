"""Threats 23 to 26: algebra that a verifier relies on, and arithmetic on which two implementations might part.

Gathers the cases on products and on backends, and puts forged products into the transcript of a whole step.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.lab.attacks import algebra_backends, algebra_products
from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from chain.errors import InvalidProof
from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.backends import get_backend
from ml.backends.reference_freivalds import compute_residues
from ml.checkpoint import compute_initial_checkpoint
from ml.checks import CheckContext
from ml.dataset import load_digits
from ml.freivalds import Verifier, verify_step
from ml.models import build_program
from ml.segment import Runner, StepTensors, run_steps
from ml.spec import DIGITS, Mlp
from ml.tensor_tree import IntArray, compute_tensor_root
from ml.trace import Trace, compute_step_roots
from ml.transcript import ACCUMULATOR_BYTES, compute_transcript_size, get_product_shape, make_transcript

SPEC = replace(DIGITS, model=Mlp((64, 24, 10)), batch=8, segment_steps=2, warmup_steps=1, decay_steps=1)


def hash_plainly(arrays: Sequence[IntArray]) -> tuple[Hash, ...]:
    """Return the roots of arrays, one by one."""
    return tuple(map(compute_tensor_root, arrays))


def judge_transcript(effort: Effort) -> Outcome:
    """Add errors that cancel to the products of a step's transcript, whose trace is honest."""
    program, backend = build_program(SPEC), get_backend("reference")
    checkpoint, dataset = compute_initial_checkpoint(program), load_digits(SPEC.heldout)
    seed = tagged_hash("segment", effort.seed.to_bytes(8, "little"))
    steps: list[StepTensors] = []
    run_steps(Runner(program, backend, dataset, seed, checkpoint), lambda _step, tensors: steps.append(tensors))
    roots = b"".join(compute_step_roots(program, step, tensors) for step, tensors in enumerate(steps))
    trace = Trace(program, hash_plainly(checkpoint.weights), roots)
    verifier = Verifier(backend, compute_residues, hash_plainly)
    context, served = CheckContext(program, dataset, seed), make_transcript(program, backend, 0, steps[0])
    verify_step(verifier, context, trace, 0, served, bytes(32))
    rng = np.random.default_rng(effort.seed)
    refused, tried = 0, max(8, effort.trials // 64)
    for number in range(tried):
        coin = tagged_hash("coin", number.to_bytes(8, "little"))
        try:
            verify_step(verifier, context, trace, 0, _spoil(served, len(served) - _count_products(), rng), coin)
        except InvalidProof:
            refused += 1
    return Outcome(tried, refused, None, None, "one wrong element in a step's products is enough")


def _count_products() -> int:
    """Return the bytes of all products of a step; they end its transcript."""
    program = build_program(SPEC)
    products = sum(rows * columns for rows, columns in map(get_product_shape, program.matmuls))
    assert ACCUMULATOR_BYTES * products < compute_transcript_size(program, 0)
    return ACCUMULATOR_BYTES * products


def _spoil(served: bytes, start: int, rng: np.random.Generator) -> bytes:
    """Return a transcript with 1 added to one element of a product and taken from the next."""
    products = np.frombuffer(served[start:], "<i4").copy()
    element = int(rng.integers(len(products) - 1))
    products[element] += 1
    products[element + 1] -= 1
    return served[:start] + products.tobytes()


ATTACKS: tuple[Attack, ...] = (
    *algebra_products.ATTACKS,
    *algebra_backends.ATTACKS,
    Attack(
        (23, 24, 26), "products of a whole step",
        "Add one to an element of a served product and take one from the next", "refused", (Ending.DETECTED,),
        judge_transcript,
    ),
)  # fmt: skip
