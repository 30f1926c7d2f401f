"""The node's own transactions: signed one after another, so that no two of them take the same nonce.

Commits, openings, answers and disputes come from one account, and are made by parts that know nothing of each other.
"""

import asyncio

from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import (
    Action,
    Sidecar,
    Transaction,
    TransactionBody,
    compute_signing_hash,
    compute_transaction_hash,
)
from node.gate import TransactionGate

FEE_ATOMS = 1_000
"""What a node offers for its own transactions; enough to stand before free ones."""


class Sender:
    """Signs with the node's key and offers to the pool."""

    def __init__(self, gate: TransactionGate, key: SigningKey, chain_id: Hash) -> None:
        """Send to `gate` what `key` signs."""
        self._gate = gate
        self._key = key
        self._chain_id = chain_id
        self._turn = asyncio.Lock()

    async def send(self, action: Action, sidecar: Sidecar | None = None) -> Hash:
        """Sign and offer a transaction, and return its hash; raises InvalidTransaction, MissingData."""
        async with self._turn:
            nonce = self._gate.compute_next_nonce(self._key.public_key)
            body = TransactionBody(self._key.public_key, nonce, FEE_ATOMS, action)
            transaction = Transaction(body, self._key.sign(compute_signing_hash(self._chain_id, body)))
            await self._gate.admit(transaction, sidecar)
            return compute_transaction_hash(transaction)

    def is_waiting(self, transaction_hash: Hash) -> bool:
        """Say whether a transaction that was sent stands in no block of the head's branch yet, and may still do so."""
        return self._gate.is_waiting(transaction_hash)
