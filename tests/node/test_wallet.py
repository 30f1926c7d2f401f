"""What a wallet says when it cannot know: a payment that may have been taken is named, or it is made twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from chain.inference import RequestInference
from chain.packed import PackedTransaction
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.transaction import Transfer
from node.exit_codes import CommandError
from node.inference.payments import Sender
from node.rpc.client import NodeUnreachable, RemoteError, RpcClient
from node.rpc.methods import GET_ACCOUNT, SEND_TRANSACTION
from node.rpc.registry import Method
from node.rpc.views import to_hex
from node.wallet import send_action, wait_for_block
from tests.support.live_node import HOLDER, MINER, LiveNode, run_live_node

PAYMENT = Transfer(MINER.public_key, 5)


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path) as node:
        yield node


def list_waiting(live: LiveNode) -> list[PackedTransaction]:
    return list(live.node.parts.mempool.iter_candidates())


def break_in(monkeypatch: pytest.MonkeyPatch, after: str, act: Callable[[], None]) -> None:
    """Let something happen once, right after the node has answered a call."""
    call, calls = RpcClient.call, list[str]()

    def call_and_act(self: RpcClient, method: Method[msgspec.Struct, object], params: msgspec.Struct) -> object:
        answer = call(self, method, params)
        calls.append(method.name)
        if method.name == after and calls.count(after) == 1:
            act()
        return answer

    monkeypatch.setattr(RpcClient, "call", call_and_act)


async def test_a_payment_that_the_node_may_have_is_named(live: LiveNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang_up() -> None:
        raise NodeUnreachable("no node answers at http://there: timed out")

    break_in(monkeypatch, SEND_TRANSACTION.name, hang_up)
    with pytest.raises(NodeUnreachable) as error:
        await asyncio.to_thread(send_action, live.url, HOLDER, PAYMENT, 1_000)
    (taken,) = list_waiting(live)
    assert f"it may have {to_hex(taken.hash)} all the same" in str(error.value)


async def test_a_payment_is_named_when_the_node_leaves_before_its_block(live: LiveNode) -> None:
    sent = await asyncio.to_thread(send_action, live.url, HOLDER, PAYMENT, 1_000)
    await live.node.rpc.stop()
    with pytest.raises(NodeUnreachable, match=f"{sent} was sent"):
        await asyncio.to_thread(wait_for_block, live.url, sent, 5.0)


async def test_a_request_is_named_by_the_nonce_that_was_signed(live: LiveNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command of the same key comes between; under a wrong name the escrow could not be closed."""
    terms = RequestInference(Hash(bytes(32)), Hash(bytes(32)), MINER.public_key, 5_000, 6, 10**7, 1_000)

    def pay() -> None:
        send_action(live.url, HOLDER, PAYMENT, 1_000)

    break_in(monkeypatch, GET_ACCOUNT.name, pay)
    with pytest.raises(RemoteError):
        await asyncio.to_thread(Sender(live.url, HOLDER, 1_000).request, terms)
    assert [type(each.transaction.body.action) for each in list_waiting(live)] == [Transfer]


async def test_a_payment_that_is_refused_and_kept_is_not_called_gone(live: LiveNode) -> None:
    much = Transfer(MINER.public_key, 2_000 * ATOMS_PER_COIN)
    with pytest.raises(RemoteError, match="this node keeps it"):
        await asyncio.to_thread(send_action, live.url, HOLDER, much, 1_000)
    (kept,) = live.node.parts.gate._later
    with pytest.raises(CommandError, match="still waits"):
        await asyncio.to_thread(wait_for_block, live.url, to_hex(kept), 0.1)
