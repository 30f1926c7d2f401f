"""The sender of `benchmarks.end_to_end`: signed transfers at a steady rate from many accounts, over RPC.

Each account sends in the order of its nonces; what is refused for want of room is offered again later, so no gap stops
an account. It measures nothing but how much it offered and how full the pool was.
"""

import time
from collections import deque

from chain.codec import encode
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.transaction import Transaction, TransactionBody, Transfer, compute_signing_hash
from node.rpc.client import RpcClient
from node.rpc.methods import GET_STATUS, SEND_TRANSACTIONS, SendManyParams
from node.rpc.registry import Params
from node.rpc.views import SentView

LOAD_ACCOUNTS = 512
LOAD_ATOMS = 1_000 * ATOMS_PER_COIN
FEE_ATOMS = 1_000
BATCH = 200
WAITING_MAX = 12_000
"""Transactions in the pool beyond which none is offered: it has no more room for these accounts."""


def make_load_keys() -> tuple[SigningKey, ...]:
    """Return the keys of the sending accounts."""
    return tuple(SigningKey((7_000_000 + number).to_bytes(32, "big")) for number in range(LOAD_ACCOUNTS))


def run_sender(url: str, chain_id: Hash, seconds: int, rate: int) -> tuple[int, int]:
    """Offer `rate` transfers a second; return how many were taken and the most that waited in the pool."""
    keys, nonces = make_load_keys(), [0] * LOAD_ACCOUNTS
    turns = deque(range(LOAD_ACCOUNTS))
    client = RpcClient(url)
    start_s, taken, pool_max = time.monotonic(), 0, 0
    while (elapsed_s := time.monotonic() - start_s) < seconds:
        waiting = client.call(GET_STATUS, Params()).pool_transactions
        pool_max = max(pool_max, waiting)
        if taken >= elapsed_s * rate or waiting > WAITING_MAX:
            time.sleep(0.02)
            continue
        senders = [turns.popleft() for _ in range(BATCH)]
        offered = [encode(_make_transfer(keys, sender, nonces[sender], chain_id)) for sender in senders]
        answers: list[SentView] = client.call(SEND_TRANSACTIONS, SendManyParams(offered))
        for sender, answer in zip(senders, answers, strict=True):
            if answer.hash is not None:
                nonces[sender] += 1
                taken += 1
            turns.append(sender)
    client.close()
    return taken, pool_max


def _make_transfer(keys: tuple[SigningKey, ...], sender: int, nonce: int, chain_id: Hash) -> Transaction:
    recipient = keys[(sender * 7 + 3 + nonce) % LOAD_ACCOUNTS].public_key
    body = TransactionBody(keys[sender].public_key, nonce, FEE_ATOMS, Transfer(recipient, 1))
    return Transaction(body, keys[sender].sign(compute_signing_hash(chain_id, body)))
