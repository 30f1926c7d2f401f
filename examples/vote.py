"""A whole decision on a running development network: lock stake, propose, vote, wait, and verify what came of it.

Start a network (`./dev run`), then `python examples/vote.py`. The keys of the network's nodes vote to raise the deposit
that each commit locks, by a tenth. With the defaults of a development network this takes about a minute. It trusts the
node for nothing that it prints at the end: the value is proven under the state root of a header. That the header is the
chain's is for a light client to say (`mathesis light`).
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from chain.codec import decode, encode
from chain.errors import MathesisError
from chain.header import HEADER_BYTES_MAX, Header
from chain.ledger.governance_records import Choice, InForce
from chain.ledger.keys import IN_FORCE_KEY
from chain.ledger.proposals import compute_proposal_id
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof, verify_inclusion
from chain.transaction import CastVote, ChangeParameter, LockStake, ProposeChange
from node.keystore import load_key
from node.rpc.client import RpcClient
from node.rpc.governance_methods import GET_PARAMETERS, GET_PROPOSAL, ProposalParams
from node.rpc.governance_views import ProposalView
from node.rpc.methods import GET_BLOCK, GET_HEAD, SEND_TRANSACTION, BlockParams, SendParams
from node.rpc.registry import Params
from node.rpc.views import to_hex
from node.wallet import get_chain_id, send_action, sign_next

FEE_ATOMS = 1_000_000
STAKE_ATOMS = 400 * ATOMS_PER_COIN
"""Of each key: with three keys more than a fifth of all coins of a development network."""

IN_FORCE_BYTES_MAX = 256
POLL_S = 0.2


def get_height(client: RpcClient) -> int:
    """Return the height of the node's head."""
    return client.call(GET_HEAD, Params()).height


def wait_for_block(client: RpcClient, above: int) -> int:
    """Return the height of the first head above a height."""
    while (height := get_height(client)) <= above:
        time.sleep(POLL_S)
    return height


def propose(client: RpcClient, key: SigningKey, change: ChangeParameter) -> Hash:
    """Send a proposal and return its name, which follows from what was signed."""
    chain_id, terms = get_chain_id(client), ProposeChange("Raise the deposit by a tenth", change)
    transaction = sign_next(client, chain_id, key, terms, FEE_ATOMS)
    client.call(SEND_TRANSACTION, SendParams(encode(transaction)))
    return compute_proposal_id(chain_id, key.public_key, transaction.body.nonce, terms)


def wait_for_status(client: RpcClient, name: Hash, awaited: Sequence[str]) -> ProposalView:
    """Return the proposal once its status is one of those awaited, telling of each block."""
    height = 0
    while True:
        found = client.call(GET_PROPOSAL, ProposalParams(to_hex(name)))
        if found.status in awaited:
            return found
        if found.entry.height > height:
            height = found.entry.height
            print(f"height {height}: {found.status or 'waiting for a block'}")
        time.sleep(POLL_S)


def get_deposit(client: RpcClient) -> int:
    """Return the deposit in force in atoms, proven under the state root of the header that the node names."""
    entry = client.call(GET_PARAMETERS, Params()).entry
    block = client.call(GET_BLOCK, BlockParams(entry.header_hash))
    header = decode(Header, block.header.record, HEADER_BYTES_MAX)
    assert entry.value is not None
    proof = decode(StateProof, entry.proof, STATE_PROOF_BYTES_MAX)
    verify_inclusion(header.foliage.state_root, IN_FORCE_KEY.name, entry.value, proof)
    return decode(InForce, entry.value, IN_FORCE_BYTES_MAX).deposit


def run(url: str, keys: Sequence[SigningKey]) -> int:
    """Play the decision with `keys`, the first of which proposes; return 0 when it is in effect."""
    client = RpcClient(url)
    height = wait_for_block(client, 0)
    before = get_deposit(client)
    print(f"height {height}: a commit locks {before} atoms")
    for key in keys:
        send_action(url, key, LockStake(STAKE_ATOMS), FEE_ATOMS)
    # Stake counts for what is proposed in a later block. Two blocks: a transaction may miss the first.
    wait_for_block(client, wait_for_block(client, height))
    name = propose(client, keys[0], ChangeParameter("deposit", before + before // 10))
    print(f"proposed {to_hex(name)}")
    wait_for_status(client, name, ("open",))
    for key in keys:
        send_action(url, key, CastVote(name, int(Choice.YES)), FEE_ATOMS)
    decided = wait_for_status(client, name, ("enacted", "rejected", "expired", "lapsed"))
    print(f"{decided.status}: {decided.yes} atoms for it, {decided.no} against, of {decided.circulating}")
    after = get_deposit(client)
    print(f"height {get_height(client)}: a commit locks {after} atoms, and the proof holds")
    return 0 if after == before + before // 10 else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Read where the network is, load its nodes' keys and run."""
    parser = argparse.ArgumentParser(description="Vote on a running development network.")
    parser.add_argument("--devnet", type=Path, default=Path(".devnet"), help="directory of the network")
    parser.add_argument("--rpc", default="http://127.0.0.1:4611", help="address of a node's RPC")
    options = parser.parse_args(arguments)
    paths = sorted(options.devnet.glob("node*/node-key.json"))
    if not paths:
        parser.error(f"found no keys under {options.devnet}, expected a development network's directory")
    try:
        return run(options.rpc, [load_key(path, "") for path in paths])
    except MathesisError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    raise SystemExit(main())
