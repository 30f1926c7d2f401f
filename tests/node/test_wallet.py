"""A wallet whose key signs elsewhere too: whoever was faster took the nonce, and the action is signed anew."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from chain.transaction import Transfer
from node import wallet
from node.rpc.client import RemoteError, RpcClient
from node.rpc.methods import AccountParams
from node.rpc.state_views import AccountView
from node.wallet import send_action, wait_for_block
from tests.support.live_node import HOLDER, MINER, LiveNode, run_live_node

TRANSFER = Transfer(MINER.public_key, 7)


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path) as node:
        yield node


def answer_late(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Have the next questions for a nonce answered as before the last transaction; return the answers."""
    honest: Callable[[RpcClient, object, object], object] = RpcClient.call  # type: ignore[assignment]
    told: list[int] = []

    def call(client: RpcClient, method: object, params: object) -> object:
        answer = honest(client, method, params)
        if isinstance(params, AccountParams):
            assert isinstance(answer, AccountView)
            answer = msgspec.structs.replace(answer, next_nonce=answer.next_nonce - (len(told) < times))
            told.append(answer.next_nonce)
        return answer

    monkeypatch.setattr(RpcClient, "call", call)
    return told


async def send(live: LiveNode) -> str:
    return await asyncio.to_thread(send_action, live.url, HOLDER, TRANSFER, 1_000_000)


async def test_an_action_is_signed_anew_when_its_nonce_was_gone(
    live: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(live)
    await live.mine(1)
    told = answer_late(monkeypatch, 2)
    sent = await send(live)
    await live.mine(1)
    assert await asyncio.to_thread(wait_for_block, live.url, sent, 30) == 2
    assert told == [0, 0, 1]


async def test_it_gives_up_in_the_end(live: LiveNode, monkeypatch: pytest.MonkeyPatch) -> None:
    await send(live)
    await live.mine(1)
    told = answer_late(monkeypatch, 100)
    with pytest.raises(RemoteError, match="nonce"):
        await send(live)
    assert len(told) == wallet.NONCE_TRIES
