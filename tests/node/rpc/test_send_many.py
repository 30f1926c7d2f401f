"""Many transactions in one call: each is answered for itself, in order, and what is refused keeps nothing else out."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chain.codec import encode
from chain.signature import SigningKey
from chain.transaction import Transaction, TransactionBody, Transfer, compute_signing_hash, compute_transaction_hash
from node.rpc.client import AsyncRpcClient, RemoteError
from node.rpc.methods import SEND_TRANSACTIONS, SendManyParams
from node.rpc.views import to_hex
from tests.support.live_node import HOLDER, LiveNode, run_live_node

STRANGER = SigningKey(b"\x55" * 32)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path_factory.mktemp("node")) as node:
        yield node


def transfer(live: LiveNode, key: SigningKey, nonce: int, amount: int = 5) -> Transaction:
    body = TransactionBody(key.public_key, nonce, 1_000, Transfer(STRANGER.public_key, amount))
    return Transaction(body, key.sign(compute_signing_hash(live.node.parts.chain.header_context.chain_id, body)))


async def test_each_is_answered_for_itself(live: LiveNode) -> None:
    good = [transfer(live, HOLDER, nonce) for nonce in range(3)]
    poor = transfer(live, STRANGER, 0, 10**18)
    offered = [encode(good[0]), b"\xc0", encode(good[1]), encode(poor), encode(good[0]), encode(good[2])]
    async with AsyncRpcClient(live.url) as rpc:
        answers = await rpc.call(SEND_TRANSACTIONS, SendManyParams(offered))
    names = [to_hex(compute_transaction_hash(each)) for each in good]
    assert [answer.hash for answer in answers] == [names[0], None, names[1], None, names[0], names[2]]
    assert [answer.rule for answer in answers] == [None, "encoding", None, "balance", None, None]
    assert len(live.node.parts.mempool) == 3


@pytest.mark.parametrize("offered", [[], [b"\xc0"] * 1_001])
async def test_the_number_is_bounded(live: LiveNode, offered: list[bytes]) -> None:
    async with AsyncRpcClient(live.url) as rpc:
        with pytest.raises(RemoteError, match="parameter"):
            await rpc.call(SEND_TRANSACTIONS, SendManyParams(offered))
