"""People who use the network: accounts that send each other atoms through whichever node is up.

Their nonces come from that node, as a wallet's do, so two nodes that are apart see conflicting transactions. A refusal
is theirs to bear. Miners that lost their bond post a new one.
"""

import asyncio
from collections.abc import Sequence
from random import Random

from benchmarks.lab.simulator.machine import Machine
from benchmarks.lab.simulator.setting import Setting
from chain.errors import InvalidTransaction, MissingData, StorageError
from chain.ledger.keys import miner_key
from chain.signature import SigningKey
from chain.transaction import Action, PostBond, Transaction, TransactionBody, Transfer, compute_signing_hash
from node.validator import Validator

PAUSE_S_MEAN = 2.0
BURST_CHANCE = 0.1
BURST_MAX = 12
"""Transactions that one person sends in a row: enough that they are judged and announced together."""
AMOUNT_MAX = 10_000
FEE_MAX = 5_000
BOND_CHANCE = 0.1


async def use_network(setting: Setting, machines: Sequence[Machine], random: Random) -> None:
    """Send transactions until cancelled."""
    while True:
        await asyncio.sleep(random.expovariate(1 / PAUSE_S_MEAN))
        machine = random.choice(machines)
        if machine.validator is not None:
            machine.spawn(_use(setting, machine.validator, random))


async def _use(setting: Setting, validator: Validator, random: Random) -> None:
    count = random.randrange(2, BURST_MAX) if random.random() < BURST_CHANCE else 1
    try:
        for _ in range(count):
            await validator.parts.gate.admit(_draw_transaction(setting, validator, random))
    except (InvalidTransaction, MissingData, StorageError):
        return


def _draw_transaction(setting: Setting, validator: Validator, random: Random) -> Transaction:
    view = validator.parts.chain.view()
    records = [(key, view.get(miner_key(key.public_key))) for key in setting.miners]
    unbonded = [key for key, record in records if record is None or not record.bond]
    if unbonded and random.random() < BOND_CHANCE:
        return _sign(setting, validator, random.choice(unbonded), PostBond(setting.genesis.parameters.bond), 0)
    sender, recipient = random.sample(setting.accounts, 2)
    transfer = Transfer(recipient.public_key, random.randrange(1, AMOUNT_MAX))
    return _sign(setting, validator, sender, transfer, random.randrange(FEE_MAX))


def _sign(setting: Setting, validator: Validator, key: SigningKey, action: Action, fee: int) -> Transaction:
    body = TransactionBody(key.public_key, validator.parts.gate.compute_next_nonce(key.public_key), fee, action)
    return Transaction(body, key.sign(compute_signing_hash(setting.context.chain_id, body)))
