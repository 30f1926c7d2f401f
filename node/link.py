"""One peer's connection at work: a wire, the protocol state over it, and what waits to be sent.

Reading is slowed to the peer's budgets of bytes and of messages. Answers to its questions are made only when what was
sent before has left, so a peer that asks for much and reads little costs a list of hashes, and beyond that its
connection.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from node.observability.tally import Tally
from node.surroundings import WirePort
from p2p.actions import Question
from p2p.budgets import MessageBudgets
from p2p.connection import Connection, Established, State
from p2p.handshake import Role, Session
from p2p.limits import Limits, TokenBucket
from p2p.messages import Message, Ping, Pong, Status
from p2p.serve import Server, takes_long
from p2p.slots import SlotKind


class Link:
    """A connection with its queues. It ends when `receive` ends."""

    def __init__(self, wire: WirePort, session: Session, limits: Limits, traffic_bytes: Tally) -> None:
        """Take a fresh wire; `traffic_bytes` counts what is received and sent."""
        self.wire = wire
        self.role = session.role
        self.status = Status(0, 0)
        self.established: Established | None = None
        self.kind = SlotKind.INBOUND
        self.origin = "inbound"
        self.since_ms = self.heard_ms = get_now_ms()
        self.pinged_ms: int | None = None
        self.latency_ms: int | None = None
        self.block_ms = self.transaction_ms = 0
        self.received_bytes = self.sent_bytes = 0
        self.is_muted = False
        self._connection = Connection(session)
        self._limits = limits
        self._traffic_bytes = traffic_bytes
        self._nonce: int | None = None
        self._budgets = MessageBudgets()
        self._bucket = TokenBucket(limits.receive_bytes_per_s, limits.receive_burst_bytes)
        self._queue: deque[bytes] = deque()
        self._queue_bytes = 0
        self._backlog: deque[Question] = deque()
        self._wake = asyncio.Event()
        self._is_closing = False

    @property
    def is_inbound(self) -> bool:
        """Whether the peer opened the connection."""
        return self.role is Role.RESPONDER

    @property
    def peer_nonce(self) -> bytes:
        """The nonce of the peer's Hello, empty before it came."""
        return self._connection.peer.nonce if self._connection.peer is not None else b""

    async def shake_hands(self) -> Established:
        """Run the handshake; raises RemoteProtocolError, or OSError (TimeoutError too) when the peer is gone."""
        async with asyncio.timeout(self._limits.handshake_ms / 1000):
            while True:
                for frame in self._connection.take_outgoing():
                    await self.wire.send(frame)
                if isinstance(event := self._connection.next_event(), Established):
                    self.established = event
                    return event
                data = await self.wire.receive()
                if data is None:
                    raise ConnectionError("the peer closed the connection during the handshake")
                self._connection.receive_data(data)

    async def receive(self) -> AsyncIterator[Message]:
        """Yield messages until the wire closes; raises RemoteProtocolError."""
        while not self._is_closing and (data := await self.wire.receive()) is not None:
            self.heard_ms = get_now_ms()
            self.received_bytes += len(data)
            self._traffic_bytes.add("received", len(data))
            wait_ms = self._bucket.take(len(data), self.heard_ms)
            if wait_ms:
                await asyncio.sleep(wait_ms / 1000)
            self._connection.receive_data(data)
            while (event := self._connection.next_event()) is not None:
                assert not isinstance(event, Established)
                if isinstance(event, Pong):
                    self._on_pong(event)
                wait_ms = self._budgets.take(event, get_now_ms())
                # Receiving may not wait at all: between two of many messages everybody else has a turn.
                await asyncio.sleep(wait_ms / 1000)
                yield event

    def ping(self, nonce: int) -> bool:
        """Queue a Ping whose answer will tell the latency; False as `send`."""
        self._nonce, self.pinged_ms = nonce, get_now_ms()
        return self.send(Ping(nonce))

    def send(self, message: Message) -> bool:
        """Queue a message; False when the peer reads too slowly and has to be dropped.

        Nothing is queued for a peer that has broken the protocol: its connection is about to be closed.
        """
        if self._connection.state is State.CLOSED:
            return True
        frame = self._connection.send(message)
        self._queue.append(frame)
        self._queue_bytes += len(frame)
        self._wake.set()
        return self._queue_bytes <= self._limits.send_queue_bytes_max

    async def send_now(self, message: Message) -> None:
        """Send a message past the queue; for a link whose writer does not run. Raises OSError."""
        await self.wire.send(self._connection.send(message))

    def serve(self, question: Question) -> bool:
        """Queue a question; False when too many wait already."""
        self._backlog.append(question)
        self._wake.set()
        return len(self._backlog) <= self._limits.serve_backlog_max

    async def run_writer(self, server: Server) -> None:
        """Send what is queued, then answer questions, until the wire breaks."""
        while True:
            while not self._queue and not self._backlog:
                self._wake.clear()
                await self._wake.wait()
            if not self._queue:
                if takes_long(self._backlog[0]):
                    self.send(await asyncio.to_thread(server.answer, self._backlog.popleft()))
                else:
                    self.send(server.answer_next(self._backlog))
                # Sending may not wait at all: between two of many answers everybody else has a turn.
                await asyncio.sleep(0)
            frame = self._queue.popleft()
            await self.wire.send(frame)
            self.sent_bytes += len(frame)
            self._traffic_bytes.add("sent", len(frame))
            self._queue_bytes -= len(frame)

    async def close(self) -> None:
        """Close the wire; `receive` then ends."""
        self._is_closing = True
        await self.wire.close()

    def _on_pong(self, pong: Pong) -> None:
        """Take the latency; whoever cannot guess the nonce cannot answer early."""
        if self.pinged_ms is not None and pong.nonce == self._nonce:
            latency_ms = get_now_ms() - self.pinged_ms
            self.latency_ms = latency_ms if self.latency_ms is None else min(self.latency_ms, latency_ms)
            self._nonce = None


def get_now_ms() -> int:
    """Return the event loop's time in milliseconds."""
    return int(asyncio.get_running_loop().time() * 1000)
