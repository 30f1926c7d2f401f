"""`python -m ml.backends.warm`: compile every kernel once into the cache, saying how long each part took.

Each part runs the real code on a small input of the types that are used later, so that nothing compiles while a node
runs. A room that owns kernels adds a line to `GROUPS`. Nothing imports this module.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np

from chain.primitives import Hash
from ml.backends import get_backend
from ml.backends.cpu import ticket
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import compute_initial_checkpoint, decode_checkpoint, encode_checkpoint
from ml.dataset import Dataset, Text, load_digits
from ml.evaluation import compute_evaluation
from ml.models import build_program
from ml.noise import MatmulShape, Place
from ml.segment import Runner, compute_initial_state, run_segment
from ml.spec import DIGITS, Decoder, Positions, Spec
from ml.training import run_training_step

_DECODER = Decoder(
    vocabulary=256, context=64, width=64, layers=1, heads=2, hidden=128, positions=Positions.LEARNED, tied=0
)


def warm_classifier() -> None:
    """Compile the ops of a classifier's segment and of its evaluation."""
    _warm_training(DIGITS, load_digits(DIGITS.heldout))


def warm_decoder() -> None:
    """Compile the ops of a language model's segment and of its evaluation, for both kinds of positions."""
    stream = np.arange(4096).astype(np.uint8)
    stream.setflags(write=False)
    text = Text(stream, stream[:512], Hash(bytes(32)))
    for positions in Positions:
        _warm_training(replace(DIGITS, model=replace(_DECODER, positions=positions), batch=2), text)


def _warm_training(spec: Spec, dataset: Dataset) -> None:
    program = build_program(replace(spec, segment_steps=2, warmup_steps=0, decay_steps=0))
    checkpoint = decode_checkpoint(program, encode_checkpoint(compute_initial_checkpoint(program)))
    backend = get_backend("cpu")
    run_segment(program, backend, checkpoint, dataset, bytes(32))
    compute_evaluation(program, backend, checkpoint, dataset)
    run_training_step(
        Runner(program, backend, dataset, bytes(32), checkpoint), 0, compute_initial_state(program, checkpoint)
    )


def warm_hashing() -> None:
    """Compile the hashing of tensors of every element type, and of one strip."""
    ticket.hash_strip_rows(bytes(32), 1)
    compute_tensor_roots([np.ones((33, 5), np.int8), np.ones((33, 5), np.int32), np.ones((33, 5), np.int64)])


def warm_lottery() -> None:
    """Compile the mining, opening and verifying of a matmul."""
    operand_i8, shape, seed = np.ones((32, 64), np.int8), MatmulShape(32, 32, 64), Hash(bytes(32))
    ticket.mine_matmul(seed, operand_i8, operand_i8, (0,))
    ticket.find_tickets(seed, operand_i8, operand_i8, (0,))
    ticket.compute_ticket_digest(seed, shape, Place(0, 0, 0), operand_i8, operand_i8)


Part = tuple[str, Callable[[], None]]
"""A name for the progress line, and the function that runs the part."""

GROUPS: tuple[tuple[Part, ...], ...] = (
    (("classifier", warm_classifier), ("language model", warm_decoder)),
    (("tensor hashing", warm_hashing), ("lottery", warm_lottery)),
)
"""What is compiled, each group in a process of its own: no kernel of any size is in two groups."""


def warm_group(group: tuple[Part, ...]) -> None:
    """Compile a group's parts in order, one progress line each."""
    for name, warm in group:
        start_ns = time.monotonic_ns()
        warm()
        took_ms = (time.monotonic_ns() - start_ns) // 1_000_000
        print(f"kernels: {name}, {took_ms} ms", flush=True)


def main() -> int:
    """Compile all groups side by side; return the exit code."""
    with ProcessPoolExecutor(len(GROUPS), get_context("spawn")) as pool:
        list(pool.map(warm_group, GROUPS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
