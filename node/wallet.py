"""What a wallet does beside keeping keys: it asks a node for chain and nonce, signs, and hands the transaction over.

It checks nothing that the node says but the network it signs for; `node.light` verifies.
"""

from chain.codec import decode, encode
from chain.genesis import GENESIS_BYTES_MAX, Genesis, compute_chain_id
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import Action, Transaction, TransactionBody, compute_signing_hash
from node.addresses import format_address
from node.rpc.client import RpcClient
from node.rpc.methods import GET_ACCOUNT, GET_GENESIS, SEND_TRANSACTION, AccountParams, SendParams
from node.rpc.registry import Params


def sign_action(chain_id: Hash, key: SigningKey, nonce: int, fee: int, action: Action) -> Transaction:
    """Return a signed transaction; `fee` in atoms."""
    body = TransactionBody(key.public_key, nonce, fee, action)
    return Transaction(body, key.sign(compute_signing_hash(chain_id, body)))


def get_chain_id(client: RpcClient) -> Hash:
    """Return the name of the node's network; raises what `RpcClient.call` does."""
    return compute_chain_id(decode(Genesis, client.call(GET_GENESIS, Params()).record, GENESIS_BYTES_MAX))


def sign_next(client: RpcClient, chain_id: Hash, key: SigningKey, action: Action, fee: int) -> Transaction:
    """Return an action signed with the account's next nonce; raises what `RpcClient.call` does."""
    account = client.call(GET_ACCOUNT, AccountParams(format_address(key.public_key)))
    return sign_action(chain_id, key, account.next_nonce, fee, action)


def send_action(url: str, key: SigningKey, action: Action, fee: int) -> str:
    """Sign an action with the account's next nonce, send it and return its hash; raises what `RpcClient.call` does."""
    client = RpcClient(url)
    transaction = sign_next(client, get_chain_id(client), key, action, fee)
    return client.call(SEND_TRANSACTION, SendParams(encode(transaction)))
