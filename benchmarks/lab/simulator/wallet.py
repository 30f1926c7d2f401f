"""A key whose owner sends a few transactions at a time through whichever node is up.

What was sent is offered again until it stands in blocks or a node refuses some of it; then the state of a node's head
decides what is next, as that state may be another branch's. It knows no purpose.
"""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from benchmarks.lab.simulator.machine import Machine
from chain.errors import InvalidTransaction, MissingData, StorageError
from chain.ledger.accounts import get_account
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import Action, Sidecar, Transaction, TransactionBody, compute_signing_hash
from node.chain import Chain
from node.validator import Validator

LOOK_S_MEAN = 1.0
"""Between two looks at some node: half a block."""
FEE_MAX = 5_000

Wish = tuple[Action, Sidecar | None]
"""What is to be sent, with the block data that go with it."""
Decide = Callable[[Chain], Sequence[Wish]]
"""Says what is next and in which order, by the head of a node's chain."""


class Wallet:
    """Signs what its owner decides."""

    def __init__(self, chain_id: Hash, key: SigningKey, random: Random) -> None:
        """Sign with `key`; nothing has been sent."""
        self._chain_id = chain_id
        self._key = key
        self._random = random
        self._pending: list[tuple[Transaction, Sidecar | None]] = []

    async def act(self, validator: Validator, decide: Decide) -> None:
        """Offer what waits, or else what is decided now, to a node; a refusal is a reason to decide anew."""
        chain = validator.parts.chain
        nonce = get_account(chain.view(), self._key.public_key).nonce
        pending = [each for each in self._pending if each[0].body.nonce >= nonce]
        if not pending:
            pending = [(self._sign(nonce + number, wish[0]), wish[1]) for number, wish in enumerate(decide(chain))]
        self._pending = pending
        for number, (transaction, sidecar) in enumerate(pending):
            try:
                await validator.parts.gate.admit(transaction, sidecar)
            except InvalidTransaction:
                # A node that is behind says nothing about later nonces.
                if self._pending is pending and pending[0][0].body.nonce == nonce:
                    self._pending = pending[:number]
                return
            except (MissingData, StorageError):
                return

    def _sign(self, nonce: int, action: Action) -> Transaction:
        body = TransactionBody(self._key.public_key, nonce, self._random.randrange(FEE_MAX), action)
        return Transaction(body, self._key.sign(compute_signing_hash(self._chain_id, body)))


async def live(wallet: Wallet, decide: Decide, machines: Sequence[Machine], random: Random) -> None:
    """Act through one node after another until cancelled."""
    while True:
        await asyncio.sleep(random.expovariate(1 / LOOK_S_MEAN))
        machine = random.choice(machines)
        if machine.validator is not None:
            machine.spawn(wallet.act(machine.validator, decide))
