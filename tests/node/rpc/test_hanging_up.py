"""Callers that hang up in the middle of a question or send what is no text: no error is logged, others are answered."""

import asyncio
import logging
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from node.rpc.client import AsyncRpcClient
from node.rpc.methods import GET_HEAD
from node.rpc.registry import Params
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
