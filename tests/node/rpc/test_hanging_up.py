"""Callers that hang up in the middle of a question or send what is no text: no error is logged, others are answered."""

import asyncio
import logging
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from node.options import Endpoint
from node.rpc.api import NodeApi
from node.rpc.client import AsyncRpcClient
from node.rpc.dispatch import Dispatcher
from node.rpc.methods import GET_HEAD
from node.rpc.registry import Method, Params, Registry
from node.rpc.server import CALLS_AT_ONCE_MAX, RpcServer, ServerOptions
from tests.support.live_node import run_live_node


async def test_a_caller_that_hangs_up_leaves_no_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with run_live_node(tmp_path) as live:
        place = urlsplit(live.url)
        head = (
            f"POST / HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        )
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                _, writer = await asyncio.open_connection(place.hostname, place.port)
                writer.write(head.encode() + b'{"jsonrpc"')
                await writer.drain()
                await asyncio.sleep(0.1)
                writer.transport.abort()
            await asyncio.sleep(0.2)
        assert not [record for record in caplog.records if record.name.startswith("aiohttp")]
        async with AsyncRpcClient(live.url) as rpc:
            assert (await rpc.call(GET_HEAD, Params())).height == 0


async def test_a_token_that_is_no_text_is_a_wrong_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with run_live_node(tmp_path) as live:
        place = urlsplit(live.url)
        body = b'{"jsonrpc": "2.0", "method": "miner_getWork", "id": 1}'
        head = f"POST / HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        rest = f"\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        with caplog.at_level(logging.WARNING):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.write(head.encode() + b"Authorization: Bearer \xff\xfe" + rest.encode() + body)
            answer = await reader.read()
            writer.close()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"rule":"cookie"' in answer
        assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


class Nothing:
    """A node that no method here asks anything of."""


async def test_a_caller_that_takes_no_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that wait to be taken would fill the memory: each caller's is as large as a batch's may be."""
    size_bytes = 48 << 20

    async def tell(_: NodeApi, __: Params) -> str:
        return "x" * size_bytes

    monkeypatch.setattr("node.rpc.server.WRITE_TIMEOUT_S", 0.2)
    method = Method("tell", "Tell.", Params, str, tell)
    dispatcher = Dispatcher(Registry((method,)), Nothing())  # type: ignore[arg-type]  # the method asks the node nothing
    server = RpcServer(dispatcher, ServerOptions(Endpoint("127.0.0.1", 0)))
    await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.endpoint.port, limit=1024)
        body = b'{"jsonrpc": "2.0", "method": "tell", "id": 1}'
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        async with asyncio.timeout(20):
            while server._slots._value == CALLS_AT_ONCE_MAX:
                await asyncio.sleep(0.01)
            while server._slots._value < CALLS_AT_ONCE_MAX:
                await asyncio.sleep(0.01)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(size_bytes)
        writer.close()
        monkeypatch.undo()
        async with AsyncRpcClient(f"http://127.0.0.1:{server.endpoint.port}") as rpc:
            told = await rpc.call(method, Params())
            assert len(told) == size_bytes
    finally:
        await server.stop()
