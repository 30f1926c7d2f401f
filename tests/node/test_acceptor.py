"""Connections are accepted at a bounded rate; what waits is not lost, and what fails ends nothing else."""

import asyncio
import socket
from contextlib import suppress

import pytest

from node.acceptor import Acceptor
from p2p.limits import Limits

SLOW = Limits(accepts_per_s=20, accepts_burst=4)


async def connect(port: int, host: str = "127.0.0.1") -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection(host, port)
    return writer


async def test_beyond_the_burst_connections_wait_their_turn() -> None:
    times: list[float] = []

    async def handle(connection: socket.socket) -> None:
        times.append(asyncio.get_running_loop().time())
        connection.close()

    acceptor = Acceptor(SLOW)
    port = await acceptor.start("127.0.0.1", 0, handle)
    writers = await asyncio.gather(*(connect(port) for _ in range(10)))
    async with asyncio.timeout(10):
        while len(times) < 10:
            await asyncio.sleep(0.01)
    # The bucket was full: four at once and a fifth behind them, then a twentieth of a second for each.
    assert times[9] - times[4] >= 4 / 20
    for writer in writers:
        writer.close()
    await acceptor.stop()


async def test_what_fails_in_one_connection_ends_no_other() -> None:
    handled: list[int] = []

    async def handle(connection: socket.socket) -> None:
        handled.append(1)
        connection.close()
        if len(handled) == 1:
            raise ConnectionResetError("the first one fails")

    acceptor = Acceptor(Limits())
    port = await acceptor.start("127.0.0.1", 0, handle)
    async with asyncio.timeout(10):
        while len(handled) < 3:
            (await connect(port)).close()
            await asyncio.sleep(0.01)
    await acceptor.stop()


async def test_a_stop_frees_the_port_and_ends_what_is_handled() -> None:
    is_ended = asyncio.Event()

    async def handle(connection: socket.socket) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            connection.close()
            is_ended.set()

    acceptor = Acceptor(Limits())
    port = await acceptor.start("127.0.0.1", 0, handle)
    writer = await connect(port)
    await asyncio.sleep(0.05)
    await acceptor.stop()
    assert is_ended.is_set()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    socket.create_server(("127.0.0.1", port)).close()


async def test_a_port_that_is_taken_is_an_error() -> None:
    async def handle(connection: socket.socket) -> None:
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await Acceptor(Limits()).start("127.0.0.1", taken.getsockname()[1], handle)
