"""One interface to the lottery's matmul, and the three implementations of it, byte for byte alike.

`reference` needs NumPy and BLAKE3 alone; `cpu` and `cuda` are compiled and imported only when they are asked for. None
knows the chain: seeds, thresholds and places are given.
"""

from collections.abc import Sequence
from typing import Protocol

from chain.primitives import Hash
from ml.noise import I8, I32, FoundTicket, MatmulShape, Place


class Lottery(Protocol):
    """What mining and verifying need of a matmul C (M, N) = a (M, K) x bt (N, K) transposed, int8 in [-63, 63]."""

    def mine_matmul(self, seed: Hash, a: I8, bt: I8, thresholds: Sequence[int]) -> tuple[tuple[FoundTicket, ...], I32]:
        """Return the winning tickets in order of place and the exact product C (M, N) int32, its noise taken out."""

    def find_tickets(self, seed: Hash, a: I8, bt: I8, thresholds: Sequence[int]) -> tuple[FoundTicket, ...]:
        """Return the tickets that `mine_matmul` finds, without the product: for operands that are noised again."""

    def compute_ticket_digest(self, seed: Hash, shape: MatmulShape, place: Place, rows_a: I8, rows_b: I8) -> Hash:
        """Return the digest at `place` from the raw rows of its tile, (32, columns of the window) int8 each."""

    def hash_strip_rows(self, rows: bytes, piece_bytes: int, /) -> bytes:
        """Return the digest of a strip of a tensor's tree, as `ml.tensor_tree.hash_strip_rows` does."""


def get_lottery(name: str) -> Lottery:
    """Return the implementation called "reference", "cpu" or "cuda".

    Raises ValueError for another name, and DeviceMissing where "cuda" finds no GPU.
    """
    if name == "reference":
        from ml.backends import reference_ticket  # noqa: PLC0415 - a verifier loads only what it runs

        return reference_ticket
    if name == "cpu":
        import ml.backends.cpu.ticket as compiled  # noqa: PLC0415 - a light client has no Numba

        return compiled
    if name == "cuda":
        from ml.backends.cuda import lottery as on_device  # noqa: PLC0415 - it takes torch and Triton
        from ml.backends.cuda.device import get_device  # noqa: PLC0415

        get_device()
        return on_device
    raise ValueError(f"found lottery {name!r}, expected 'reference', 'cpu' or 'cuda'")
