"""The lottery's matmul with rank and fold interval as parameters, and a count of all that is computed.

The protocol derives both from K; here an attack may lower the one or stretch the other, to see what they are for. At
the protocol's values the digests are those of the reference. It knows no attack. Source: docs/protocol.md, Tickets.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.backends.reference_ticket import LANES, U32, hash_fold, mine_matmul
from ml.noise import (
    I8,
    I32,
    OPERAND_MAX,
    ROLE_A,
    ROLE_B,
    TILE,
    WINDOW,
    Choice,
    MatmulShape,
    Place,
    Role,
    compute_choice_factor,
    compute_dense_factor,
    compute_noise,
)

Integers = NDArray[np.signedinteger]

PERMUTED_B = Role(ROLE_B.dense, ROLE_B.choice, ROLE_B.steps[:1])
"""Noise of B as in the first version of the tickets: signed permutations without a chain."""

CERTAIN = 1 << 256
"""A threshold that every digest meets."""


@dataclass(slots=True)
class Meter:
    """Computes and counts: what is not computed through it is not charged."""

    macs: int = 0
    adds: int = 0

    @property
    def total(self) -> int:
        """Return all operations, one for one."""
        return self.macs + self.adds

    def multiply_onto(self, sums: Integers | int, left: Integers, right: Integers) -> I32:
        """Return sums + left (m, k) x right (n, k) transposed, (m, n) int32: m n k MACs."""
        self.macs += left.shape[0] * right.shape[0] * left.shape[1]
        product: I32 = (sums + left.astype(np.int32) @ right.astype(np.int32).T).astype(np.int32)
        return product

    def add(self, left: Integers, right: Integers) -> I32:
        """Return left + right, int32: one addition an element."""
        self.adds += left.size
        total: I32 = (left.astype(np.int32) + right).astype(np.int32)
        return total

    def combine(self, dense: I8, combinations: NDArray[np.int64]) -> I32:
        """Return dense (m, r) x combinations (r, k) of -1, 0 and 1: one addition a term, but for the first."""
        self.adds += dense.shape[0] * (int(np.count_nonzero(combinations)) - combinations.shape[1])
        combined: I32 = dense.astype(np.int32) @ combinations.astype(np.int32)
        return combined


@dataclass(frozen=True, slots=True)
class Lattice:
    """The dimensions of a matmul of whole tiles, the rank of its noise and the columns between two folds."""

    M: int
    N: int
    K: int
    rank: int
    fold: int
    """A multiple of the rank, and a divisor of K and of a window."""

    def iterate_folds(self) -> Iterator[tuple[slice, bool]]:
        """Yield the columns of every fold, and whether a window starts with it."""
        for start in range(0, self.K, self.fold):
            yield slice(start, start + self.fold), start % WINDOW == 0


def get_protocol_lattice(M: int, N: int, K: int) -> Lattice:
    """Return the lattice that the protocol lays over a matmul."""
    shape = MatmulShape(M, N, K)
    return Lattice(M, N, shape.noised_columns, shape.rank, shape.rank)


@dataclass(frozen=True, slots=True)
class Factors:
    """Both factors of one operand's noise."""

    dense: I8
    choice: Choice
    role: Role

    def get_columns(self, columns: slice) -> I8:
        """Return the noise (rows, columns) int8 of whole groups of columns."""
        choice = Choice(self.choice.targets[columns], self.choice.signs[columns])
        return compute_noise(self.dense, choice, self.role)

    def add_to(self, meter: Meter, operand: I8, columns: slice) -> I32:
        """Return the columns of whole groups of `operand` (rows, K) under noise: an addition an element and step."""
        noised = meter.add(operand[:, columns], self.get_columns(columns))
        meter.adds += noised.size * (len(self.role.steps) - 1)
        return noised


@dataclass(frozen=True, slots=True)
class Noise:
    """The four factors of one lap's noise."""

    a: Factors
    b: Factors


@dataclass(frozen=True, slots=True)
class Scene:
    """Operands (M, K) and (N, K) int8 under the noise of one seed."""

    lattice: Lattice
    seed: Hash
    a: I8
    bt: I8
    noise: Noise


def make_scene(lattice: Lattice, seed: Hash, a: I8, bt: I8, role_b: Role = ROLE_B) -> Scene:
    """Return the operands with the noise that `seed` gives them, of the lattice's rank."""
    rank, groups = lattice.rank, lattice.K // lattice.rank
    noise = Noise(
        *(
            Factors(
                compute_dense_factor(seed, role, 0, rows, rank),
                compute_choice_factor(seed, role, 0, groups, rank),
                role,
            )
            for role, rows in ((ROLE_A, lattice.M), (role_b, lattice.N))
        )
    )
    return Scene(lattice, seed, a[:, : lattice.K], bt[:, : lattice.K], noise)


def make_operands(M: int, N: int, K: int, seed: int) -> tuple[I8, I8]:
    """Return operands (M, K) and (N, K) int8 uniform in [-63, 63]."""
    rng = np.random.default_rng(seed)
    a, bt = (rng.integers(-OPERAND_MAX, OPERAND_MAX, (rows, K), np.int8, endpoint=True) for rows in (M, N))
    return a, bt


def make_lap_seed(lap: int) -> Hash:
    """Return the seed of a lap: another for every one, as parent and lap make it."""
    return tagged_hash("ticket", lap.to_bytes(4, "little"))


def add_noise(meter: Meter, scene: Scene) -> tuple[I32, I32]:
    """Return both operands under noise, (M, K) and (N, K) int32."""
    whole = slice(0, scene.lattice.K)
    return scene.noise.a.add_to(meter, scene.a, whole), scene.noise.b.add_to(meter, scene.bt, whole)


def compute_honest_prefixes(meter: Meter, scene: Scene) -> Iterator[I32]:
    """Yield the accumulators (M, N) int32 at every fold, as an honest miner has them."""
    noised_a, noised_b = add_noise(meter, scene)
    sums: I32 | int = 0
    for columns, is_first in scene.lattice.iterate_folds():
        sums = meter.multiply_onto(0 if is_first else sums, noised_a[:, columns], noised_b[:, columns])
        yield sums


def compute_digests(scene: Scene, prefixes: Iterable[I32]) -> tuple[Hash, ...]:
    """Return every digest, by tile row, tile column and window, from the accumulators at every fold."""
    windows: list[U32] = []
    for (_, is_first), prefix in zip(scene.lattice.iterate_folds(), prefixes, strict=True):
        fold = fold_tiles(prefix)
        if is_first:
            windows.append(np.zeros_like(fold))
        windows[-1] = rotate(windows[-1], 7) ^ fold
    tile_rows, tile_columns, _ = windows[0].shape
    return tuple(
        hash_fold(scene.seed, Place(row, column, window), state[row, column])
        for row in range(tile_rows)
        for column in range(tile_columns)
        for window, state in enumerate(windows)
    )


def split_tiles(prefix: I32) -> U32:
    """Return accumulators (M, N) as (tile rows, 32, tile columns, 2, lanes) uint32."""
    rows, columns = (size // TILE for size in prefix.shape)
    return prefix.view(np.uint32).reshape(rows, TILE, columns, TILE // LANES, LANES)


def fold_tiles(prefix: I32) -> U32:
    """Return the XOR of every tile's rotated accumulators, (tile rows, tile columns, lanes) uint32."""
    rotated = rotate(split_tiles(prefix), np.arange(TILE)[None, :, None, None, None])
    folded: U32 = np.bitwise_xor.reduce(np.bitwise_xor.reduce(rotated, axis=3), axis=1)
    return folded


def rotate(words: U32, bits: NDArray[np.int64] | int) -> U32:
    """Return words rotated to the left by 0 to 31 bits."""
    wide_u64 = words.astype(np.uint64) << np.asarray(bits, np.uint64)
    return (wide_u64 | wide_u64 >> np.uint64(32)).astype(np.uint32)


def get_reference_digests(scene: Scene) -> tuple[Hash, ...]:
    """Return every digest as the reference finds it."""
    shape = MatmulShape(scene.lattice.M, scene.lattice.N, scene.lattice.K)
    found, _ = mine_matmul(scene.seed, scene.a, scene.bt, [CERTAIN] * shape.windows)
    return tuple(ticket.digest for ticket in found)
