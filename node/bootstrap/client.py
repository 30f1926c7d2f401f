"""One peer that is asked questions, one at a time: what else it says is let go.

It speaks the node's own protocol over the node's own links and believes nothing: answers are checked by who asks. A
peer that does not answer, or breaks the protocol, is lost for good.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from chain.errors import MathesisError
from chain.signature import SigningKey
from node.link import Link
from node.observability.tally import Tally
from node.surroundings import Surroundings
from p2p.dialling import Endpoint
from p2p.errors import LocalProtocolError, RemoteProtocolError
from p2p.handshake import NetworkId, Role, make_session
from p2p.limits import Limits
from p2p.messages import Message, NotFound, Ping, Pong, Status

ANSWER_TIMEOUT_S = 30
STATUS_TIMEOUT_S = 10

M = TypeVar("M", bound=Message)


class PeerLost(MathesisError):
    """A peer hung up, was silent too long, or broke the protocol."""


class Client:
    """A connection that we opened, for questions."""

    def __init__(self, link: Link, place: str, on_fail: Callable[[str], None]) -> None:
        """Take a link after its handshake; `place` names the peer in messages, `on_fail` hears why it is left out."""
        self.place = place
        self.is_good = True
        self._on_fail = on_fail
        self._link = link
        self._answers: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=4)
        self._greeted = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @property
    def status(self) -> Status:
        """Where the peer's head stands, by its own word."""
        return self._link.status

    def refuse(self, reason: str) -> None:
        """Ask this peer nothing more."""
        self.is_good = False
        self._on_fail(reason if reason.startswith(self.place) else f"{self.place}: {reason}")

    async def wait_greeted(self) -> None:
        """Wait for the peer's first word on its head; raises PeerLost."""
        try:
            async with asyncio.timeout(STATUS_TIMEOUT_S):
                await self._greeted.wait()
        except TimeoutError:
            raise PeerLost(f"{self.place} does not say where it stands") from None

    async def ask(self, question: Message, kind: type[M]) -> M | None:
        """Return the answer, None when the peer does not have it; raises PeerLost."""
        while not self._answers.empty():
            self._answers.get_nowait()
        await self._send(question)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                while True:
                    answer = await self._answers.get()
                    if isinstance(answer, kind):
                        return answer
                    if isinstance(answer, NotFound):
                        return None
                    if answer is None:
                        raise PeerLost(f"{self.place} hung up")
        except TimeoutError:
            raise PeerLost(f"{self.place} does not answer {type(question).__name__}") from None

    async def close(self) -> None:
        """Hang up."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._link.close()

    async def _send(self, message: Message) -> None:
        try:
            await self._link.send_now(message)
        except (OSError, LocalProtocolError) as error:
            # Whoever has broken the protocol meanwhile is sent nothing more.
            raise PeerLost(f"{self.place}: {error}") from None

    async def _read(self) -> None:
        try:
            async for message in self._link.receive():
                if isinstance(message, Status):
                    self._link.status = message
                    self._greeted.set()
                elif isinstance(message, Ping):
                    await self._link.send_now(Pong(message.nonce))
                elif not self._answers.full():
                    self._answers.put_nowait(message)
        except (RemoteProtocolError, OSError):
            pass
        finally:
            if self._answers.full():
                self._answers.get_nowait()
            self._answers.put_nowait(None)


async def connect(
    endpoint: Endpoint, key: SigningKey, network: NetworkId, surroundings: Surroundings, on_fail: Callable[[str], None]
) -> Client | None:
    """Return a peer that has said where it stands, None when it cannot be reached."""
    limits, place = Limits(), f"{endpoint.host}:{endpoint.port}"
    try:
        wire = await surroundings.dialler.dial(endpoint.host, endpoint.port, limits.handshake_ms / 1000)
        nonce = surroundings.get_random_bytes(32)
        session = make_session(Role.INITIATOR, key, network, wire.certificate_hash, nonce, 0)
        link = Link(wire, session, limits, Tally())
        try:
            await link.shake_hands()
        except BaseException:
            await link.close()
            raise
        client = Client(link, place, on_fail)
        try:
            await client.wait_greeted()
        except PeerLost:
            await client.close()
            raise
    except (OSError, MathesisError) as error:
        on_fail(f"{place}: {error}")
        return None
    return client
