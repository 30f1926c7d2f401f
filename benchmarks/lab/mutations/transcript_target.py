"""Transcripts of trained steps: the state and every exact product, by which a step is verified without its matmuls.

The attacker has trained the segment, committed to its trace, and serves other bytes than it should. The coin is drawn
after the transcript, so here it follows from the bytes: a new one for each that is tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from random import Random

import numpy as np

from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import Attempt, Forgery, Sample, Target
from benchmarks.lab.mutations.trained import Trained, train
from benchmarks.verifier_cases import make_verifier
from chain.hashing import tagged_hash
from ml.arithmetic import I32
from ml.backends.reference_freivalds import MODULUS
from ml.freivalds import verify_step
from ml.program import Matmul
from ml.transcript import ACCUMULATOR_BYTES, get_product_shape, list_inputs, make_transcript


@dataclass(frozen=True, slots=True)
class Scene:
    """A step of a segment with its transcript."""

    trained: Trained
    step: int
    transcript: bytes

    def judge(self, data: bytes) -> None:
        """Check bytes as the transcript of this step; raises as a judge does."""
        coin = tagged_hash("mutations.coin", data)
        verify_step(make_verifier(), self.trained.context, self.trained.trace, self.step, data, coin)

    @property
    def products_start(self) -> int:
        """Where the products begin."""
        return sum(tensor.size_bytes for tensor in list_inputs(self.trained.context.program, self.step))

    def get_product(self, data: bytearray, matmul: Matmul) -> I32:
        """Return the product of a matmul as a writable view of a transcript's bytes."""
        start = self.products_start
        for each in self.trained.context.program.matmuls:
            rows, columns = get_product_shape(each)
            if each is matmul:
                return np.frombuffer(data, "<i4", rows * columns, start).reshape(rows, columns)
            start += ACCUMULATOR_BYTES * rows * columns
        raise AssertionError("every matmul has a product")


def make_samples() -> tuple[Sample, ...]:
    """Return the transcripts of a first, a middle and the last step of each segment."""
    scenes = [
        _make_scene(trained, step)
        for trained in map(train, ("digits", "decoder"))
        for step in (0, 1, trained.context.program.steps - 1)
    ]
    return tuple(Sample(Attempt(scene.transcript, scene.judge), _make_forgeries(scene, scenes)) for scene in scenes)


def _make_scene(trained: Trained, step: int) -> Scene:
    program, backend = trained.context.program, trained.runner.backend
    return Scene(trained, step, make_transcript(program, backend, step, trained.steps[step]))


def _make_forgeries(scene: Scene, scenes: list[Scene]) -> Mapping[str, Forgery]:
    forgeries = {
        "product altered": alter_product,
        "errors that cancel": cancel_errors,
        "product off by the modulus": shift_by_modulus,
        "rows of a product swapped": swap_rows,
        "state of another value": alter_state,
    }
    others = [other for other in scenes if other.trained is scene.trained and other is not scene]
    return {
        **{name: partial(forge, scene) for name, forge in forgeries.items()},
        "product of another step": partial(take_product, scene, others),
    }


def _draw_matmul(scene: Scene, rng: Random) -> Matmul:
    return rng.choice(scene.trained.context.program.matmuls)


def _draw_element(product: I32, rng: Random) -> tuple[int, int]:
    return rng.randrange(product.shape[0]), rng.randrange(product.shape[1])


def alter_product(scene: Scene, rng: Random) -> Attempt:
    """Turn a bit of an element of a product."""
    data = bytearray(scene.transcript)
    product = scene.get_product(data, _draw_matmul(scene, rng))
    product[_draw_element(product, rng)] ^= np.int32(1 << rng.randrange(31))
    return Attempt(bytes(data), scene.judge)


def cancel_errors(scene: Scene, rng: Random) -> Attempt:
    """Add to one element of a row, or column, what is taken from another: sums stay."""
    data = bytearray(scene.transcript)
    product = scene.get_product(data, _draw_matmul(scene, rng))
    if rng.random() < 0.5:
        product = product.T
    row, column = _draw_element(product, rng)
    difference = np.int32(rng.choice((1, 2, 63, 63 * 63)))
    product[row, column] += difference
    product[row, (column + 1) % product.shape[1]] -= difference
    return Attempt(bytes(data), scene.judge)


def shift_by_modulus(scene: Scene, rng: Random) -> Attempt:
    """Put an element there that equals the true one modulo 2^31 - 1."""
    data = bytearray(scene.transcript)
    product = scene.get_product(data, _draw_matmul(scene, rng))
    place = _draw_element(product, rng)
    true = int(product[place])
    product[place] = true - MODULUS if true >= 0 else true + MODULUS
    return Attempt(bytes(data), scene.judge)


def swap_rows(scene: Scene, rng: Random) -> Attempt:
    """Swap two rows of a product, or two columns."""
    data = bytearray(scene.transcript)
    product = scene.get_product(data, _draw_matmul(scene, rng))
    if rng.random() < 0.5:
        product = product.T
    first, second = rng.randrange(len(product)), rng.randrange(len(product))
    product[[first, second]] = product[[second, first]]
    return Attempt(bytes(data), scene.judge)


def alter_state(scene: Scene, rng: Random) -> Attempt:
    """Write a special value over an element of the state."""
    data, program = bytearray(scene.transcript), scene.trained.context.program
    tensors = list_inputs(program, scene.step)
    tensor, start = rng.choice(tensors), 0
    for each in tensors:
        if each is tensor:
            break
        start += each.size_bytes
    width = tensor.dtype.itemsize
    start += width * rng.randrange(tensor.rows * tensor.columns)
    value = rng.choice((0, 1, -1, 2 ** (8 * width - 1) - 1, -(2 ** (8 * width - 1)), 2 ** (8 * width - 2)))
    data[start : start + width] = value.to_bytes(width, "little", signed=True)
    return Attempt(bytes(data), scene.judge)


def take_product(scene: Scene, others: list[Scene], rng: Random) -> Attempt:
    """Serve a product of another step of the segment, or all of it."""
    data, other = bytearray(scene.transcript), rng.choice(others)
    if rng.random() < 0.2:
        return Attempt(other.transcript, scene.judge)
    matmul = _draw_matmul(scene, rng)
    scene.get_product(data, matmul)[:] = other.get_product(bytearray(other.transcript), matmul)
    return Attempt(bytes(data), scene.judge)


TARGET_OF_TRANSCRIPTS = Target(
    "transcripts",
    "the state and all products of one step, to whoever verifies it by Freivalds' check",
    make_samples,
    BYTE_MUTATORS,
)
