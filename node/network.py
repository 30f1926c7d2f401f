"""The network of one node: its links, the relay over them, and the door to the chain.

Everything happens on one event loop. What peers send is judged one piece at a time by one task; what the relay wants
done is done right after every event. It knows no rule of the chain. A failure inside the chain is ours, not a peer's:
it ends the judging and comes out of `wait_failed`.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass

from chain.errors import MathesisError
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from node.doorman import Doorman, Visit
from node.link import Link
from node.observability.journal import get_log
from node.observability.tally import Tally
from node.ports import ChainPort, Outcome, SubmitResult
from node.surroundings import Surroundings, WirePort, make_surroundings
from p2p.actions import Action, Charge, DeliverBlock, DeliverHeaders, DeliverTransaction, Delivery, Send
from p2p.errors import HandshakeRefused, RemoteProtocolError
from p2p.handshake import NetworkId, Role, make_session
from p2p.limits import Limits
from p2p.messages import Message, Ping, Status
from p2p.relay import Relay
from p2p.score import Fault, Standing

log = get_log("network")

TICK_S = 0.2
REDIAL_S_MIN = 0.5
REDIAL_S_MAX = 30.0
TRANSACTIONS_QUEUED_MAX = 256
"""Transactions waiting to be judged; beyond, new ones are let go."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What is known of one connected peer; height and work are its claims, points its standing (0 is best)."""

    key: PublicKey
    address: str
    listen_port: int
    is_inbound: bool
    height: int
    total_work: int
    points: int


class Network:
    """All of a node's peers."""

    def __init__(
        self,
        chain: ChainPort,
        key: SigningKey,
        network_id: NetworkId,
        limits: Limits | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Connect nobody yet; over this machine's sockets unless other `surroundings` are given."""
        self._chain = chain
        self._key = key
        self._network_id = network_id
        self._limits = limits or Limits()
        self._relay = Relay(chain, self._limits)
        self._doorman = Doorman(self._limits)
        self._links: dict[PublicKey, Link] = {}
        self._tasks: dict[asyncio.Task[object], None] = {}
        self._deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        surroundings = surroundings or make_surroundings(self._limits)
        self._listener, self._dialler = surroundings.listener, surroundings.dialler
        self._get_random_bytes = surroundings.get_random_bytes
        self._failed: asyncio.Future[None] | None = None
        self._port = 0
        self.charges = Tally(tuple(fault.name.lower() for fault in Fault))
        self.traffic_bytes = Tally(("received", "sent"))

    async def start(self, host: str, port: int, seeds: tuple[Endpoint, ...]) -> int:
        """Listen, keep dialling the seeds, and return the port; raises OSError when it is taken."""
        self._port = await self._listener.start(host, port, self._on_inbound)
        self._failed = asyncio.get_running_loop().create_future()
        for vital in (self._run_judge(), self._run_ticks()):
            self._spawn(vital).add_done_callback(self._on_vital_done)
        for seed in seeds[: self._limits.outbound_max]:
            self._spawn(self._run_seed(seed))
        return self._port

    async def stop(self) -> None:
        """Close every connection and end every task."""
        if self._failed is not None:
            self._failed.cancel()
        for task in list(self._tasks):
            task.cancel()
        # Ending links spawns tasks that close them.
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.stop()
        await self._dialler.stop()

    async def wait_failed(self) -> None:
        """Wait for a failure of the chain and raise it; returns after `stop`."""
        assert self._failed is not None, "not started"
        await asyncio.wait([self._failed])
        if not self._failed.cancelled():
            self._failed.result()

    def announce_block(self, block_hash: Hash) -> None:
        """Tell every peer of a new head that the chain already has."""
        self._relay.announce_block(block_hash)
        self._act()

    def announce_transaction(self, transaction_hash: Hash) -> None:
        """Tell every peer of a transaction that the chain already has."""
        self._relay.announce_transaction(transaction_hash)
        self._act()

    def get_peers(self) -> list[PeerInfo]:
        """Return the connected peers, oldest connection first."""
        return [self._describe(key, link) for key, link in self._links.items()]

    @property
    def deliveries_waiting(self) -> int:
        """How many pieces of content wait to be judged."""
        return self._deliveries.qsize()

    def _describe(self, key: PublicKey, link: Link) -> PeerInfo:
        listen_port = link.established.listen_port if link.established else 0
        points = self._doorman.get_points(key, _now_ms())
        status = link.status
        return PeerInfo(key, link.wire.address, listen_port, link.is_inbound, status.height, status.total_work, points)

    def _spawn(self, work: Coroutine[object, object, object]) -> asyncio.Task[object]:
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[object]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # An error that says what is wrong needs no trace; any other is a fault of ours.
            trace = None if isinstance(error, MathesisError) else error
            log.error("task failed", error=str(error), exc_info=trace)

    def _on_vital_done(self, task: asyncio.Task[object]) -> None:
        assert self._failed is not None
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _on_inbound(self, wire: WirePort) -> None:
        visit = self._doorman.admit(wire.address, _now_ms())
        if visit is None:
            log.info("connection refused", address=wire.address, reason="no room, or banned")
            await wire.close()
            return
        try:
            # A task of ours, so that `stop` can end it.
            await asyncio.wait([self._spawn(self._run_wire(wire, Role.RESPONDER, visit))])
        finally:
            self._doorman.leave(visit)

    async def _run_seed(self, seed: Endpoint) -> None:
        wait_s = REDIAL_S_MIN
        key: PublicKey | None = None
        while True:
            if key is None or key not in self._links:
                key = await self._dial(seed)
            await asyncio.sleep(wait_s)
            wait_s = REDIAL_S_MIN if key is not None else min(REDIAL_S_MAX, 2 * wait_s)

    async def _dial(self, seed: Endpoint) -> PublicKey | None:
        """Return the key of the node that was reached, after its link has ended."""
        try:
            wire = await self._dialler.dial(seed.host, seed.port, self._limits.handshake_ms / 1000)
        except OSError as error:
            log.debug("cannot reach", host=seed.host, port=seed.port, error=str(error))
            return None
        return await self._run_wire(wire, Role.INITIATOR, None)

    async def _run_wire(self, wire: WirePort, role: Role, visit: Visit | None) -> PublicKey | None:
        """Run a connection from handshake to end; return the peer's key when the handshake succeeded."""
        nonce = self._get_random_bytes(32)
        session = make_session(role, self._key, self._network_id, wire.certificate_hash, nonce, self._port)
        link = Link(wire, session, self._limits, self.traffic_bytes)
        key: PublicKey | None = None
        try:
            key = (await link.shake_hands()).key
            if visit is not None:
                visit.is_half_open = False
            if self._take_link(key, link):
                await self._run_link(key, link)
        except HandshakeRefused as error:
            log.warning("no handshake", address=wire.address, error=str(error))
        except RemoteProtocolError as error:
            log.warning("peer broke the protocol", peer=key, address=wire.address, error=str(error))
            self.charges.add(Fault.PROTOCOL.name.lower())
            self._doorman.charge(key, wire.address, Fault.PROTOCOL, _now_ms())
        except OSError as error:
            log.debug("connection ended", address=wire.address, error=str(error))
        finally:
            self._drop_link(key, link)
            await link.close()
        return key

    def _take_link(self, key: PublicKey, link: Link) -> bool:
        """Make `link` the one connection with `key`; False when it is refused.

        Two nodes that dial each other at once must drop the same connection: the one that the larger key opened.
        """
        if self._doorman.get_standing(key, link.wire.address, _now_ms()) is Standing.BANNED:
            return False
        old = self._links.get(key)
        if old is not None:
            is_ours_kept = self._key.public_key < key
            if old.role is not link.role and (link.role is Role.INITIATOR) is not is_ours_kept:
                return False
            self._drop_link(key, old)
            self._spawn(old.close())
        self._links[key] = link
        self._relay.on_established(key)
        self._act()
        return True

    def _drop_link(self, key: PublicKey | None, link: Link) -> None:
        if key is not None and self._links.get(key) is link:
            del self._links[key]
            self._relay.on_gone(key)
            self._act()

    async def _run_link(self, key: PublicKey, link: Link) -> None:
        writer = asyncio.create_task(self._run_writer(link))
        try:
            async for message in link.receive():
                if self._links.get(key) is not link:
                    break
                self._on_message(key, link, message)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _run_writer(self, link: Link) -> None:
        try:
            await link.run_writer(self._chain)
        except OSError:
            await link.close()

    def _on_message(self, key: PublicKey, link: Link, message: Message) -> None:
        if isinstance(message, Status):
            link.status = message
        self._relay.on_message(key, message, _now_ms())
        self._act()

    def _act(self) -> None:
        while actions := self._relay.poll(_now_ms()):
            for action in actions:
                self._perform(action)

    def _perform(self, action: Action) -> None:
        if isinstance(action, DeliverHeaders | DeliverBlock | DeliverTransaction):
            self._deliver(action)
            return
        link = self._links.get(action.peer)
        if link is None:
            return
        if isinstance(action, Charge):
            self._charge(action, link)
        elif not (link.send(action.message) if isinstance(action, Send) else link.serve(action.question)):
            log.warning("peer dropped", peer=action.peer, reason="it reads too slowly")
            self._end(action.peer, link)

    def _charge(self, charge: Charge, link: Link) -> None:
        self.charges.add(charge.fault.name.lower())
        standing = self._doorman.charge(charge.peer, link.wire.address, charge.fault, _now_ms())
        fault = charge.fault.name.lower()
        log.warning("peer charged", peer=charge.peer, fault=fault, standing=standing.name.lower(), reason=charge.reason)
        if standing is Standing.BANNED or charge.fault is Fault.PROTOCOL:
            self._end(charge.peer, link)
        elif standing is Standing.IGNORED and not link.is_muted:
            link.is_muted = True
            self._relay.on_gone(charge.peer)

    def _end(self, peer: PublicKey, link: Link) -> None:
        if self._links.get(peer) is link:
            del self._links[peer]
            self._relay.on_gone(peer)
            self._spawn(link.close())

    def _deliver(self, delivery: Delivery) -> None:
        if isinstance(delivery, DeliverTransaction) and self._deliveries.qsize() >= TRANSACTIONS_QUEUED_MAX:
            result = SubmitResult(Outcome.REFUSED, "busy")
            self._relay.on_transaction_outcome(delivery.peer, delivery.hash, result)
        else:
            self._deliveries.put_nowait(delivery)

    async def _run_judge(self) -> None:
        while True:
            delivery = await self._deliveries.get()
            if isinstance(delivery, DeliverHeaders):
                result = await self._chain.submit_headers(delivery.headers)
                self._relay.on_headers_outcome(delivery, result, _now_ms())
            elif isinstance(delivery, DeliverBlock):
                result = await self._chain.submit_block(delivery.block, delivery.sidecars)
                self._relay.on_block_outcome(delivery.peer, delivery.hash, result, _now_ms())
            else:
                result = await self._chain.submit_transaction(delivery.transaction, delivery.sidecar)
                self._relay.on_transaction_outcome(delivery.peer, delivery.hash, result)
            self._act()

    async def _run_ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for key, link in list(self._links.items()):
                self._check_life(key, link)
            self._act()

    def _check_life(self, key: PublicKey, link: Link) -> None:
        now_ms = _now_ms()
        silent_ms = now_ms - link.heard_ms
        if silent_ms > 3 * self._limits.ping_ms:
            log.info("peer dropped", peer=key, reason="it is silent")
            self._end(key, link)
        elif silent_ms > self._limits.ping_ms and now_ms - link.pinged_ms > self._limits.ping_ms:
            link.pinged_ms = now_ms
            link.send(Ping(0))
        if link.is_muted and self._doorman.get_standing(key, link.wire.address, now_ms) is Standing.GOOD:
            link.is_muted = False
            self._relay.on_established(key)


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)
