"""The noise of the lottery: which columns carry it, what it is, and how a matmul's operands look under it.

Every matmul C (M, N) = A (M, K) x BT (N, K) transposed has one shape of noise; nobody chooses rank, tile, window or
fold. E = E_L x E_R and F = F_L x F_R, one factor dense and the other, in every `rank` columns, a signed permutation:
by itself in E, followed by a chain of three in F. This is the authority, in NumPy and BLAKE3 alone; it knows no chain
of blocks and no segment. Source: arXiv 2504.09971, section 4; docs/adr/0028 for the chain.
"""

from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from chain.primitives import Hash

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]

TILE = 32
"""Rows and columns of a tile."""

WINDOW = 2048
"""Columns of K after which accumulators restart: one ticket a tile and window."""

OPERAND_MAX = 63
"""Operands lie in [-63, 63], noise too: their sum still fits int8."""


CHAIN = (0, 1, 3)
"""Which columns of a signed permutation one column of F adds up: itself, the next and the third next, in a circle.

An odd number of steps: modulo 2, where signs vanish, such a circulant of a power of two is (1 + nilpotent), whatever
the signs. So it is never singular, and every fold of F has full rank.
"""


@dataclass(frozen=True, slots=True)
class Role:
    """What sets the factors of A and of B apart: message bytes, and the steps of the chain."""

    dense: int
    choice: int
    steps: tuple[int, ...]

    @property
    def bound(self) -> int:
        """Return the largest element of the dense factor: as many as there are steps add up to OPERAND_MAX."""
        return OPERAND_MAX // len(self.steps)


ROLE_A = Role(ord("a"), ord("A"), CHAIN[:1])
ROLE_B = Role(ord("b"), ord("B"), CHAIN)


@dataclass(frozen=True, slots=True)
class MatmulShape:
    """The dimensions of a matmul and everything that the lottery derives from them."""

    M: int
    N: int
    K: int

    @property
    def rank(self) -> int:
        """Rank of the noise, columns between two folds, and size of a permutation: always the same."""
        if self.K < 2048:
            return 32
        return 64 if self.K < 4096 else 128

    @property
    def noised_columns(self) -> int:
        """Columns that carry noise: whole folds only."""
        return self.K // self.rank * self.rank

    @property
    def groups(self) -> int:
        """Folds of the whole matmul; each has its own permutation."""
        return self.K // self.rank

    @property
    def windows(self) -> int:
        """Windows that hold a fold."""
        return -(-self.noised_columns // WINDOW)

    @property
    def tile_rows(self) -> int:
        """Whole tiles over M; the rows left over earn nothing."""
        return self.M // TILE

    @property
    def tile_columns(self) -> int:
        """Whole tiles over N; the columns left over earn nothing."""
        return self.N // TILE

    @property
    def has_tickets(self) -> bool:
        """Say whether a whole tile and a whole fold fit."""
        return min(self.tile_rows, self.tile_columns, self.windows) > 0

    def get_window_columns(self, window: int) -> int:
        """Return the noised columns of `window`: rank times its folds."""
        return min(WINDOW, self.noised_columns - window * WINDOW)

    def get_ticket_macs(self, window: int) -> int:
        """Return the multiply-accumulates that one ticket of `window` stands for."""
        return TILE * TILE * self.get_window_columns(window)


@dataclass(frozen=True, slots=True)
class Place:
    """Which tile and window of a matmul."""

    tile_row: int
    tile_column: int
    window: int


@dataclass(frozen=True, slots=True)
class FoundTicket:
    """A digest below its threshold and where it was found."""

    place: Place
    digest: Hash


@dataclass(frozen=True, slots=True)
class Choice:
    """Signed permutations: column k of the permuted dense factor is `signs[k]` times dense column `targets[k]`."""

    targets: NDArray[np.int64]
    signs: I8


def compute_dense_factor(seed: Hash, role: Role, first: int, count: int, rank: int) -> I8:
    """Return rows `first` to `first + count` of a dense factor, (count, rank) int8 uniform in [-bound, bound]."""
    streams = [_read_stream(seed, role.dense, first + row, 2 * rank) for row in range(count)]
    draws = np.frombuffer(b"".join(streams), "<u2").astype(np.int32).reshape(count, rank)
    return ((draws * (2 * role.bound + 1) >> 16) - role.bound).astype(np.int8)


def compute_choice_factor(seed: Hash, role: Role, first: int, count: int, rank: int) -> Choice:
    """Return the signed permutations of groups `first` to `first + count`: (count * rank,) targets and signs."""
    targets, signs = [], []
    for group in range(first, first + count):
        stream = _read_stream(seed, role.choice, group, 2 * rank + rank // 8)
        targets += _shuffle(np.frombuffer(stream[: 2 * rank], "<u2").tolist())
        bits = np.unpackbits(np.frombuffer(stream[2 * rank :], np.uint8), bitorder="little")
        signs.append(1 - 2 * bits.astype(np.int8))
    return Choice(np.array(targets, np.int64), np.concatenate(signs) if signs else np.zeros(0, np.int8))


def compute_noise(dense: I8, choice: Choice, role: Role) -> I8:
    """Return dense factor (rows, rank) times choice factor: (rows, columns of the choice) int8 in [-63, 63]."""
    permuted = np.multiply(dense[:, choice.targets], choice.signs, dtype=np.int8)
    groups = permuted.reshape(len(dense), -1, dense.shape[1])
    noise: I8 = np.sum([np.roll(groups, -step, axis=2) for step in role.steps], axis=0, dtype=np.int8)
    return noise.reshape(permuted.shape)


def compute_operand_noise(seed: Hash, role: Role, rows: int, shape: MatmulShape) -> I8:
    """Return the noise of a whole operand: (rows, K) int8, zero beyond the last whole fold."""
    dense = compute_dense_factor(seed, role, 0, rows, shape.rank)
    noise = np.zeros((rows, shape.K), np.int8)
    choice = compute_choice_factor(seed, role, 0, shape.groups, shape.rank)
    noise[:, : shape.noised_columns] = compute_noise(dense, choice, role)
    return noise


def _read_stream(seed: Hash, role: int, index: int, size_bytes: int) -> bytes:
    return blake3(bytes([role]) + index.to_bytes(4, "little"), key=seed).digest(length=size_bytes)


def _shuffle(draws: list[int]) -> list[int]:
    """Return the permutation of Fisher and Yates that the u16 `draws` make (the first is not used)."""
    order = list(range(len(draws)))
    for k in range(len(draws) - 1, 0, -1):
        other = draws[k] * (k + 1) >> 16
        order[k], order[other] = order[other], order[k]
    return order
