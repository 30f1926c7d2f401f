"""Accounts and miners under the head's state root, each with its proof, as the node hands them to its RPC.

Whoever trusts nobody verifies `proof` under a header; what stands beside is for reading.
"""

from dataclasses import dataclass

from chain.ledger.records import Miner
from chain.primitives import Hash, PublicKey


@dataclass(frozen=True, slots=True)
class MinerProof:
    """A miner's record under the head's state root; `miner` is None when the key is absent, as `proof` then shows."""

    account: PublicKey
    header_hash: Hash
    height: int
    state_root: Hash
    key: bytes
    miner: Miner | None
    proof: bytes


@dataclass(frozen=True, slots=True)
class AccountProof:
    """One key of the state under the head's state root; `proof` is a canonical `chain.state` proof record.

    `value` is None when the key is absent, and `proof` then shows the absence.
    """

    account: PublicKey
    header_hash: Hash
    height: int
    state_root: Hash
    key: bytes
    value: bytes | None
    proof: bytes
    nonce: int
    balance: int
