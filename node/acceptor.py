"""Accepting TCP connections at a bounded rate: what waits beyond it waits in the kernel, where it costs nothing.

A connection costs a TLS handshake before anything is known of who opened it. A peer that is dropped comes back under
another key at once, so without a bound a few machines would keep a node busy with handshakes alone. It knows no TLS.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine

from node.observability.journal import get_log
from p2p.limits import Limits, TokenBucket

log = get_log("acceptor")

BACKLOG = 32
"""Connections that wait to be accepted: at the slowest for less than a handshake may take."""
FAILURE_PAUSE_S = 1.0
"""After a connection could not be accepted, for want of file descriptors say."""

Handle = Callable[[socket.socket], Coroutine[None, None, None]]


class Acceptor:
    """Listening sockets, and the connections whose handling is under way."""

    def __init__(self, limits: Limits) -> None:
        """Accept as many a second as `limits` say."""
        self._bucket = TokenBucket(limits.accepts_per_s, limits.accepts_burst)
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int, handle: Handle) -> int:
        """Listen on every address of `host` and give each connection to `handle`; return the port. Raises OSError."""
        flags = socket.AI_PASSIVE
        found = await asyncio.get_running_loop().getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                # With port 0 all addresses get the one that the first was given.
                place = (address[0], port or self._get_port(), *address[2:])
                listening = socket.create_server(place, family=family, backlog=BACKLOG)
                listening.setblocking(False)
                self._sockets.append(listening)
        except OSError:
            await self.stop()
            raise
        for listening in self._sockets:
            self._spawn(self._accept(listening, handle))
        return self._get_port()

    async def stop(self) -> None:
        """Accept no more and end what is being handled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()

    def _get_port(self) -> int:
        port: int = self._sockets[0].getsockname()[1] if self._sockets else 0
        return port

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket, handle: Handle) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                log.warning("a connection could not be accepted", error=str(error))
                await asyncio.sleep(FAILURE_PAUSE_S)
                continue
            self._spawn(handle(connection))
            await asyncio.sleep(self._bucket.take(1, int(loop.time() * 1000)) / 1000)
