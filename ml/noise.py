"""The noise of the lottery: which columns carry it, what it is, and how a matmul's operands look under it.

Every matmul C (M, N) = A (M, K) x BT (N, K) transposed has one shape of noise; nobody chooses rank, tile, window or
fold. E = E_L x E_R and F = F_L x F_R, one factor dense and the other a signed permutation in every `rank` columns. This
is the authority, in NumPy and BLAKE3 alone; it knows no chain and no segment. Source: arXiv 2504.09971, section 4.
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


@dataclass(frozen=True, slots=True)
class Role:
    """The message bytes that keep the four factors of one matmul apart."""

    dense: int
    choice: int


ROLE_A = Role(ord("a"), ord("A"))
ROLE_B = Role(ord("b"), ord("B"))


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
    """A factor of signed permutations: column k of the noise is `signs[k]` times dense column `targets[k]`."""

    targets: NDArray[np.int64]
    signs: I8


def compute_dense_factor(seed: Hash, role: Role, first: int, count: int, rank: int) -> I8:
    """Return rows `first` to `first + count` of a dense factor, (count, rank) int8 uniform in [-63, 63]."""
    streams = [_read_stream(seed, role.dense, first + row, 2 * rank) for row in range(count)]
    draws = np.frombuffer(b"".join(streams), "<u2").astype(np.int32).reshape(count, rank)
    return ((draws * 127 >> 16) - OPERAND_MAX).astype(np.int8)


def compute_choice_factor(seed: Hash, role: Role, first: int, count: int, rank: int) -> Choice:
    """Return the signed permutations of groups `first` to `first + count`: (count * rank,) targets and signs."""
    targets, signs = [], []
    for group in range(first, first + count):
        stream = _read_stream(seed, role.choice, group, 2 * rank + rank // 8)
        targets += _shuffle(np.frombuffer(stream[: 2 * rank], "<u2").tolist())
        bits = np.unpackbits(np.frombuffer(stream[2 * rank :], np.uint8), bitorder="little")
        signs.append(1 - 2 * bits.astype(np.int8))
    return Choice(np.array(targets, np.int64), np.concatenate(signs) if signs else np.zeros(0, np.int8))


def compute_noise(dense: I8, choice: Choice) -> I8:
    """Return dense factor (rows, rank) times choice factor: (rows, columns of the choice) int8 in [-63, 63]."""
    return np.multiply(dense[:, choice.targets], choice.signs, dtype=np.int8)


def compute_operand_noise(seed: Hash, role: Role, rows: int, shape: MatmulShape) -> I8:
    """Return the noise of a whole operand: (rows, K) int8, zero beyond the last whole fold."""
    dense = compute_dense_factor(seed, role, 0, rows, shape.rank)
    noise = np.zeros((rows, shape.K), np.int8)
    noise[:, : shape.noised_columns] = compute_noise(
        dense, compute_choice_factor(seed, role, 0, shape.groups, shape.rank)
    )
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
