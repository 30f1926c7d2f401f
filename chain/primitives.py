"""Names for the plain values that every room shares, and the ranges they live in.

It knows no record and no rule. Amounts are integers of atoms; heights count blocks from genesis (0).
"""

from typing import NewType

Hash = NewType("Hash", bytes)
"""32 bytes: a BLAKE3 or SHA-256 digest."""

PublicKey = NewType("PublicKey", bytes)
"""32 bytes: an Ed25519 public key. It is the name of an account, a miner or a node."""

Signature = NewType("Signature", bytes)
"""64 bytes: an Ed25519 signature."""

ZERO_HASH = Hash(bytes(32))

ATOMS_PER_COIN = 10**9
BASIS_POINTS = 10_000
"""The whole of what is split by basis points."""

U256_MAX = 2**256 - 1
