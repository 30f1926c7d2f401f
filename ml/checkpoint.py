"""A checkpoint: the weights that a round starts from and the momentum of the outer optimizer.

Its canonical bytes are the tensors one after another, little-endian, in the shapes that the program gives; its root
binds each of them. It knows no training. The first checkpoint follows from the spec's seed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chain.errors import DecodeError
from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.arithmetic import I32, INT32_MAX, compute_normal, round_shift, saturate
from ml.prf import compute_prf_array, derive_key
from ml.program import Program
from ml.tensor_tree import compute_tensor_root


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """By parameter the weights (out, in) int32 F24 and the outer momentum of the same shape, int32 F24."""

    weights: tuple[I32, ...]
    momentum: tuple[I32, ...]


def compute_initial_checkpoint(program: Program) -> Checkpoint:
    """Return near-normal weights of each parameter's deviation and zero momentum."""
    weights = []
    for place, parameter in enumerate(program.parameters):
        key = derive_key("init", program.spec.init_seed.to_bytes(8, "little"), place.to_bytes(2, "little"))
        normal = compute_normal(compute_prf_array(key, 3 * parameter.count))
        # |normal| < 2**19 and a deviation < 2**25: the product stays under 2**44.
        part = saturate(round_shift(normal * parameter.deviation, 16))
        weights.append(part.reshape(parameter.rows, parameter.columns))
    return Checkpoint(tuple(weights), tuple(np.zeros_like(part) for part in weights))


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the canonical bytes: weights by parameter, then momentum by parameter, int32 little-endian."""
    return b"".join(part.astype("<i4").tobytes() for part in (*checkpoint.weights, *checkpoint.momentum))


def decode_checkpoint(program: Program, data: bytes) -> Checkpoint:
    """Return the checkpoint of `program` whose canonical bytes are `data`; raises DecodeError."""
    shapes = _get_shapes(program)
    expected = 2 * 4 * sum(rows * columns for rows, columns in shapes)
    if len(data) != expected:
        raise DecodeError(f"Checkpoint: found {len(data)} bytes, expected {expected}")
    values = np.frombuffer(data, "<i4").astype(np.int32)
    if (values < -INT32_MAX).any():
        raise DecodeError(f"Checkpoint: found {-INT32_MAX - 1}, expected values of at most 2**31 - 1 in magnitude")
    parts, start = [], 0
    for rows, columns in shapes * 2:
        parts.append(values[start : start + rows * columns].reshape(rows, columns))
        start += rows * columns
    return Checkpoint(tuple(parts[: len(shapes)]), tuple(parts[len(shapes) :]))


def compute_checkpoint_root(checkpoint: Checkpoint) -> Hash:
    """Return the hash over the tensor roots of weights, then momentum, by parameter."""
    return bind_checkpoint_root(
        [compute_tensor_root(part) for part in checkpoint.weights],
        [compute_tensor_root(part) for part in checkpoint.momentum],
    )


def bind_checkpoint_root(weight_roots: Sequence[Hash], momentum_roots: Sequence[Hash]) -> Hash:
    """Return the checkpoint's root from the tensor roots of its parts, by parameter."""
    return tagged_hash("checkpoint", *weight_roots, *momentum_roots)


def _get_shapes(program: Program) -> list[tuple[int, int]]:
    return [(parameter.rows, parameter.columns) for parameter in program.parameters]
