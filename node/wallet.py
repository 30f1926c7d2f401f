"""What a wallet does beside keeping keys: it asks a node for chain and nonce, signs, and hands the transaction over.

It checks nothing that the node says but the network it signs for; `node.light` verifies.
"""

import time

from chain.codec import decode, encode
from chain.genesis import GENESIS_BYTES_MAX, Genesis, compute_chain_id
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
from node.addresses import format_address
from node.exit_codes import CommandError, ExitCode
from node.rpc.client import NodeUnreachable, RemoteError, RpcClient
from node.rpc.errors import ErrorCode
from node.rpc.methods import (
    GET_ACCOUNT,
    GET_GENESIS,
    GET_TRANSACTION,
    SEND_TRANSACTION,
    AccountParams,
    HashParams,
    SendParams,
)
from node.rpc.registry import Params
from node.rpc.views import to_hex

POLL_S = 0.2
"""Blocks are seconds apart."""


def get_genesis(client: RpcClient) -> Genesis:
    """Return the genesis record of a node's network; raises what `RpcClient.call` does, and DecodeError."""
    return decode(Genesis, client.call(GET_GENESIS, Params()).record, GENESIS_BYTES_MAX)


def sign_action(chain_id: Hash, key: SigningKey, nonce: int, fee: int, action: Action) -> Transaction:
    """Return a signed transaction; `fee` in atoms."""
    body = TransactionBody(key.public_key, nonce, fee, action)
    return Transaction(body, key.sign(compute_signing_hash(chain_id, body)))


def get_chain_id(client: RpcClient) -> Hash:
    """Return the name of the node's network; raises what `RpcClient.call` does."""
    return compute_chain_id(get_genesis(client))


def sign_next(client: RpcClient, chain_id: Hash, key: SigningKey, action: Action, fee: int) -> Transaction:
    """Return an action signed with the account's next nonce; raises what `RpcClient.call` does."""
    account = client.call(GET_ACCOUNT, AccountParams(format_address(key.public_key)))
    return sign_action(chain_id, key, account.next_nonce, fee, action)


def send_action(url: str, key: SigningKey, action: Action, fee: int, sidecar: Sidecar | None = None) -> str:
    """Sign an action with the account's next nonce, send it and return its hash; raises what `RpcClient.call` does.

    Block data that it names go with it.
    """
    client = RpcClient(url)
    return send_signed(client, sign_next(client, get_chain_id(client), key, action, fee), sidecar)


def send_signed(client: RpcClient, transaction: Transaction, sidecar: Sidecar | None = None) -> str:
    """Send a signed transaction and return its hash; raises what `RpcClient.call` does.

    A node that breaks off may have it all the same: who pays again then pays twice, so the error names it.
    """
    beside = None if sidecar is None else encode(sidecar)
    try:
        return client.call(SEND_TRANSACTION, SendParams(encode(transaction), beside))
    except NodeUnreachable as error:
        name = to_hex(compute_transaction_hash(transaction))
        raise NodeUnreachable(f"{error}; it may have {name} all the same: {_make_help(name)}") from None


def wait_for_block(url: str, transaction_hash: str, timeout_s: float) -> int:
    """Return the height of the block that holds a sent transaction, once one does.

    Raises CommandError when the node has let it go or the time is over, and what `RpcClient.call` does.
    """
    client, end_s = RpcClient(url), time.monotonic() + timeout_s
    while True:
        try:
            height = client.call(GET_TRANSACTION, HashParams(transaction_hash)).height
        except NodeUnreachable as error:
            message = f"{error}; {transaction_hash} was sent: {_make_help(transaction_hash)}"
            raise NodeUnreachable(message) from None
        except RemoteError as error:
            if error.code != ErrorCode.NOT_FOUND:
                raise
            message = f"the node has let {transaction_hash} go: it no longer fits what the account holds or has sent"
            raise CommandError(ExitCode.FAILURE, message) from None
        if height is not None:
            return height
        if time.monotonic() >= end_s:
            message = f"{transaction_hash} still waits after {timeout_s:g} s: {_make_help('...')}"
            raise CommandError(ExitCode.FAILURE, message)
        time.sleep(POLL_S)


def _make_help(transaction_hash: str) -> str:
    return f"`mathesis rpc tx_get hash={transaction_hash}` tells more"
