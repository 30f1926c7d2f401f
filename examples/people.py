"""What the examples share: where the network is, and people with a key and a few coins.

They expect a development network (`./dev run`) in .devnet, or where MATHESIS_DEVNET_DIR says, and its first node at
MATHESIS_RPC. People's keys lie beside its nodes; the first node's key gives each of them 50 coins.
"""

import os
from pathlib import Path

from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.transaction import Action, Sidecar, Transfer
from node.addresses import format_address
from node.keystore import load_key, make_key, write_key
from node.rpc.client import RpcClient
from node.rpc.methods import GET_ACCOUNT, GET_GENESIS, GET_HEAD, AccountParams
from node.rpc.registry import Params
from node.rpc.task_methods import GET_TASK, TaskParams
from node.rpc.views import from_hex
from node.wallet import send_action, wait_for_block

DIRECTORY = Path(os.environ.get("MATHESIS_DEVNET_DIR", ".devnet"))
URL = os.environ.get("MATHESIS_RPC", "http://127.0.0.1:4611")
FEE = ATOMS_PER_COIN // 1_000
GIFT = 50 * ATOMS_PER_COIN
WAIT_S = 300

rpc = RpcClient(URL)


def get_miner() -> SigningKey:
    """Return the key of the first node, which mines."""
    return load_key(DIRECTORY / "node1" / "node-key.json", "")


def get_person(name: str) -> SigningKey:
    """Return somebody's key; who is new gets one, and 50 coins from the miner."""
    path = DIRECTORY / "people" / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_key(path, make_key(), "", is_development=True)
        send(get_miner(), Transfer(load_key(path, "").public_key, GIFT), f"{name} gets 50 coins from the miner")
    return load_key(path, "")


def send(key: SigningKey, action: Action, text: str, sidecar: Sidecar | None = None) -> int:
    """Sign and send an action with the block data it names, wait for its block, and return the block's height."""
    height = wait_for_block(URL, send_action(URL, key, action, FEE, sidecar), WAIT_S)
    print(f"block {height}: {text}")
    return height


def get_coins(key: SigningKey) -> str:
    """Return somebody's balance in coins, exact."""
    atoms = int(rpc.call(GET_ACCOUNT, AccountParams(format_address(key.public_key))).balance)
    return f"{atoms // ATOMS_PER_COIN}.{atoms % ATOMS_PER_COIN:09d}"


def get_network_model() -> Hash:
    """Return the name of the network's own model: its task's."""
    return from_hex(rpc.call(GET_TASK, TaskParams()).task)


def get_chain_id() -> Hash:
    """Return the hash that names the network; names of what is registered depend on it."""
    return from_hex(rpc.call(GET_GENESIS, Params()).chain_id)


def get_something_new() -> bytes:
    """Return bytes that nobody has registered: those of the newest block's hash."""
    return from_hex(rpc.call(GET_HEAD, Params()).hash)
