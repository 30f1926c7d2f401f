"""The network of one node: its links, the relay over them, and the door to the chain.

Everything happens on one event loop. What the relay and the peering want done is done soon after every event, at once
for those that come close together; what peers send is judged by one task. It knows no rule of the chain. A failure
inside the chain is ours, not a peer's: it ends the judging and comes out of `wait_failed`.
"""

import asyncio
from collections.abc import Coroutine

from chain.errors import MathesisError
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from node.doorman import Doorman, Visit
from node.judge import Judge, Judged
from node.link import Link, get_now_ms
from node.observability.journal import get_log
from node.observability.tally import Tally
from node.peer_info import PeerInfo, describe_peer, make_guest
from node.peering import Peering, PeeringOptions
from node.ports import ChainPort
from node.pulse import Pulse
from node.surroundings import Surroundings, WirePort, make_surroundings
from p2p.actions import Action, Charge, DeliverBlock, DeliverHeaders, DeliverTransaction, Send
from p2p.address_relay import Contact
from p2p.addresses import make_address, pack_ip
from p2p.dialling import Connected, Dial, Endpoint
from p2p.errors import HandshakeRefused, RemoteProtocolError
from p2p.handshake import NetworkId, Role, make_session
from p2p.limits import Limits
from p2p.messages import Addresses, GetAddresses, Message, Observed, Status, TransactionMessage
from p2p.relay import Relay
from p2p.score import Fault, Standing
from p2p.serve import Server
from p2p.slots import SlotKind, choose_leaver

__all__ = ["Endpoint", "Network"]

log = get_log("network")

TICK_S = 0.2
PAUSE_S = 0.002
"""Between two looks at what is to be done: a message takes a tenth of that to act on, and a look as long again."""
LEFT_MAX = 1_024
"""Addresses of peers that left, remembered so that what they sent before can still be charged."""

SEED_VISIT_MS = 10_000
"""How long a seed may take to answer."""


class Network:
    """All of a node's peers."""

    def __init__(
        self,
        chain: ChainPort,
        key: SigningKey,
        network_id: NetworkId,
        limits: Limits | None = None,
        surroundings: Surroundings | None = None,
        options: PeeringOptions | None = None,
    ) -> None:
        """Connect nobody yet; over this machine's sockets unless other `surroundings` are given."""
        self._chain = chain
        self._key = key
        self._network_id = network_id
        self._limits = limits or Limits()
        self._doorman = Doorman(self._limits)
        self._links: dict[PublicKey, Link] = {}
        self._left: dict[PublicKey, str] = {}
        self._tasks: dict[asyncio.Task[object], None] = {}
        surroundings = surroundings or make_surroundings(self._limits)
        self._relay = Relay(chain, self._limits, Hash(surroundings.get_random_bytes(32)))
        self._judge = Judge(chain, self._relay, get_now_ms, self._on_judged)
        self._listener, self._dialler = surroundings.listener, surroundings.dialler
        self._get_random_bytes = surroundings.get_random_bytes
        self._peering = Peering(self._limits, surroundings, options or PeeringOptions())
        self._server = Server(chain, int.from_bytes(self._get_random_bytes(8), "little"))
        self._failed: asyncio.Future[None] | None = None
        self._pulse = Pulse(self._act, PAUSE_S)
        self._port = 0
        self.charges = Tally(tuple(fault.name.lower() for fault in Fault))
        self.traffic_bytes = Tally(("received", "sent"))

    async def start(self, host: str, port: int, peers: tuple[Endpoint, ...]) -> int:
        """Listen, keep dialling `peers` and whom the address book knows; return the port. Raises OSError when taken."""
        self._peering.start(host, peers, self._doorman)
        self._port = await self._listener.start(host, port, self._on_inbound)
        self._peering.addresses.listen_port = self._port
        self._failed = asyncio.get_running_loop().create_future()
        for vital in (self._judge.run(), self._run_ticks()):
            self._spawn(vital).add_done_callback(self._on_vital_done)
        return self._port

    async def stop(self) -> None:
        """Close every connection, end every task and keep what is known of peers."""
        if self._failed is None:
            return
        self._failed.cancel()
        records = self._peering.make_last_records(self._doorman)
        for task in list(self._tasks):
            task.cancel()
        # Ending links spawns tasks that close them.
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pulse.stop()
        await self._listener.stop()
        await self._dialler.stop()
        await self._peering.keep(records)

    async def wait_failed(self) -> None:
        """Wait for a failure of the chain and raise it; returns after `stop`."""
        assert self._failed is not None, "not started"
        await asyncio.wait([self._failed])
        if not self._failed.cancelled():
            self._failed.result()

    def announce_block(self, block_hash: Hash) -> None:
        """Tell every peer of a new head that the chain already has."""
        self._relay.announce_block(block_hash)
        self._pulse.ask()

    def announce_transaction(self, transaction_hash: Hash) -> None:
        """Tell every peer of a transaction that the chain already has."""
        self._relay.announce_transaction(transaction_hash)
        self._pulse.ask()

    def get_peers(self) -> list[PeerInfo]:
        """Return the connected peers, oldest connection first."""
        now_ms = self._peering.get_now_ms()
        return [describe_peer(key, link, self._doorman.get_points(key, now_ms)) for key, link in self._links.items()]

    @property
    def deliveries_waiting(self) -> int:
        """How many pieces of content wait to be judged."""
        return self._judge.waiting

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
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _on_inbound(self, wire: WirePort) -> None:
        visit = self._doorman.admit(wire.address, self._peering.get_now_ms())
        if visit is None:
            log.info("connection refused", address=wire.address, reason="no room, or banned")
            await wire.close()
            return
        try:
            # A task of ours, so that `stop` can end it.
            await asyncio.wait([self._spawn(self._run_wire(wire, visit, None))])
        finally:
            self._doorman.leave(visit)

    async def _run_dial(self, dial: Dial) -> None:
        key: PublicKey | None = None
        try:
            wire = await self._dialler.dial(dial.target.host, dial.target.port, self._limits.handshake_ms / 1000)
            key = await self._run_wire(wire, None, dial)
        except OSError as error:
            log.debug("cannot reach", host=dial.target.host, port=dial.target.port, error=str(error))
        finally:
            self._peering.plan.on_end(dial, key, self._peering.get_now_ms())

    async def _run_wire(self, wire: WirePort, visit: Visit | None, dial: Dial | None) -> PublicKey | None:
        """Run a connection from handshake to end; return the peer's key when the handshake succeeded."""
        nonce, role = self._get_random_bytes(32), Role.RESPONDER if dial is None else Role.INITIATOR
        session = make_session(role, self._key, self._network_id, wire.certificate_hash, nonce, self._port)
        link = Link(wire, session, self._limits, self.traffic_bytes)
        key: PublicKey | None = None
        if dial is not None:
            self._peering.note_nonce(nonce, dial)
        try:
            key = (await link.shake_hands()).key
            self._on_shaken(link, visit, dial)
            if link.kind is not SlotKind.FEELER and self._take_link(key, link):
                await self._run_link(key, link)
        except HandshakeRefused as error:
            log.warning("no handshake", address=wire.address, error=str(error))
            if error.rule == "self-connection":
                self._peering.on_own_nonce(link.peer_nonce)
        except RemoteProtocolError as error:
            log.warning("peer broke the protocol", peer=key, address=wire.address, error=str(error))
            self.charges.add(Fault.PROTOCOL.name.lower())
            self._doorman.charge(key, wire.address, Fault.PROTOCOL, self._peering.get_now_ms())
        except OSError as error:
            log.debug("connection ended", address=wire.address, error=str(error))
        finally:
            self._peering.forget_nonce(nonce)
            self._drop_link(key, link)
            await link.close()
        return key

    def _on_shaken(self, link: Link, visit: Visit | None, dial: Dial | None) -> None:
        if visit is not None:
            visit.is_half_open = False
        if dial is not None:
            link.kind, link.origin = dial.kind, dial.origin
            self._peering.plan.on_reached(dial, self._peering.get_now_ms())

    def _take_link(self, key: PublicKey, link: Link) -> bool:
        """Make `link` the one connection with `key`; False when it is refused.

        Two nodes that dial each other at once must drop the same connection: the one that the larger key opened.
        """
        if self._doorman.get_standing(key, link.wire.address, self._peering.get_now_ms()) is Standing.BANNED:
            return False
        old = self._links.get(key)
        if old is not None:
            is_ours_kept = self._key.public_key < key
            if old.role is not link.role and (link.role is Role.INITIATOR) is not is_ours_kept:
                return False
            self._drop_link(key, old)
            self._spawn(old.close())
        if link.is_inbound and not self._make_room():
            log.info("connection refused", address=link.wire.address, reason="all inbound places are taken")
            return False
        self._links[key] = link
        self._listen_to(key, link)
        link.ping(int.from_bytes(self._get_random_bytes(8), "little"))
        self._pulse.ask()
        return True

    def _make_room(self) -> bool:
        """Let an inbound peer leave when all places are taken; False when each is protected."""
        inbound = {key: link for key, link in self._links.items() if link.is_inbound}
        if len(inbound) < self._limits.inbound_max:
            return True
        leaver = choose_leaver((make_guest(key, link) for key, link in inbound.items()), self._peering.book.salt)
        if leaver is None:
            return False
        log.info("peer dropped", peer=leaver, reason="another one takes its inbound place")
        self._end(leaver, inbound[leaver])
        return True

    def _listen_to(self, key: PublicKey, link: Link) -> None:
        self._relay.on_established(key, is_block_only=link.kind is SlotKind.BLOCK_ONLY)
        ip = pack_ip(link.wire.address)
        if ip is not None and link.established is not None:
            contact = Contact(link.kind, ip, link.established.listen_port)
            self._peering.addresses.add_peer(key, contact, self._peering.get_now_ms())

    def _ignore(self, key: PublicKey) -> None:
        self._relay.on_gone(key)
        self._judge.drop_peer(key)
        self._peering.addresses.drop_peer(key)

    def _drop_link(self, key: PublicKey | None, link: Link) -> None:
        if key is not None and self._links.get(key) is link:
            self._take_leave(key, link)
            self._pulse.ask()

    def _take_leave(self, key: PublicKey, link: Link) -> None:
        del self._links[key]
        self._left[key] = link.wire.address
        if len(self._left) > LEFT_MAX:
            del self._left[next(iter(self._left))]
        self._ignore(key)

    async def _run_link(self, key: PublicKey, link: Link) -> None:
        writer = asyncio.create_task(self._run_writer(key, link))
        try:
            async for message in link.receive():
                if isinstance(message, TransactionMessage):
                    await self._judge.wait_block()
                if self._links.get(key) is not link:
                    break
                self._on_message(key, link, message)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _run_writer(self, key: PublicKey, link: Link) -> None:
        try:
            await link.run_writer(self._server)
        except OSError:
            await link.close()
        except Exception as error:
            # Nobody would be answered on this link any more, and it would look alive.
            log.error("peer dropped", peer=key, reason="an answer to it failed", exc_info=error)
            await link.close()

    def _on_message(self, key: PublicKey, link: Link, message: Message) -> None:
        if isinstance(message, Status):
            link.status = message
        if isinstance(message, GetAddresses | Addresses | Observed):
            self._peering.addresses.on_message(key, message, self._peering.get_now_ms())
        else:
            self._relay.on_message(key, message, get_now_ms())
        self._pulse.ask()

    def _on_judged(self, judged: Judged) -> None:
        for delivery, is_new in judged:
            link = self._links.get(delivery.peer)
            if link is not None and is_new and isinstance(delivery, DeliverBlock):
                link.block_ms = get_now_ms()
            elif link is not None and is_new and isinstance(delivery, DeliverTransaction):
                link.transaction_ms = get_now_ms()
        self._pulse.ask()

    def _act(self) -> None:
        try:
            while actions := self._relay.poll(get_now_ms()) + self._peering.addresses.poll(self._peering.get_now_ms()):
                for action in actions:
                    self._perform(action)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        assert self._failed is not None
        if not self._failed.done():
            self._failed.set_exception(error)

    def _perform(self, action: Action) -> None:
        if isinstance(action, DeliverHeaders | DeliverBlock | DeliverTransaction):
            self._judge.put(action)
            return
        link = self._links.get(action.peer)
        if isinstance(action, Charge):
            self._charge(action, link)
        elif link is not None and not (
            link.send(action.message) if isinstance(action, Send) else link.serve(action.question)
        ):
            log.warning("peer dropped", peer=action.peer, reason="it reads too slowly")
            self._end(action.peer, link)

    def _charge(self, charge: Charge, link: Link | None) -> None:
        """Charge a peer, also when it has left before what it sent was judged."""
        address = link.wire.address if link is not None else self._left.get(charge.peer)
        if address is None:
            return
        fault = charge.fault.name.lower()
        self.charges.add(fault)
        standing = self._doorman.charge(charge.peer, address, charge.fault, self._peering.get_now_ms())
        log.warning("peer charged", peer=charge.peer, fault=fault, standing=standing.name.lower(), reason=charge.reason)
        if link is None:
            return
        if standing is Standing.BANNED or charge.fault is Fault.PROTOCOL:
            self._end(charge.peer, link)
        elif standing is Standing.IGNORED and not link.is_muted:
            link.is_muted = True
            self._ignore(charge.peer)

    def _end(self, peer: PublicKey, link: Link) -> None:
        if self._links.get(peer) is link:
            self._take_leave(peer, link)
            self._spawn(link.close())

    async def _run_ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for key, link in list(self._links.items()):
                self._check_life(key, link)
            for dial in self._peering.plan.poll(self._get_connected(), self._peering.get_now_ms()):
                self._spawn(self._run_dial(dial))
            if records := self._peering.make_due_records(self._doorman):
                self._spawn(self._peering.keep(records))
            self._pulse.ask()

    def _check_life(self, key: PublicKey, link: Link) -> None:
        now_ms = get_now_ms()
        if now_ms - link.heard_ms > 3 * self._limits.ping_ms:
            log.info("peer dropped", peer=key, reason="it is silent")
            self._end(key, link)
        elif link.pinged_ms is None or now_ms - link.pinged_ms > self._limits.ping_ms:
            link.ping(int.from_bytes(self._get_random_bytes(8), "little"))
        is_answered = self._peering.addresses.has_answered(key) or now_ms - link.since_ms > SEED_VISIT_MS
        if link.kind is SlotKind.SEED and is_answered:
            self._end(key, link)
        standing = self._doorman.get_standing(key, link.wire.address, self._peering.get_now_ms())
        if link.is_muted and standing is Standing.GOOD:
            link.is_muted = False
            self._listen_to(key, link)

    def _get_connected(self) -> Connected:
        ports = [(link.wire.address, link.established) for link in self._links.values()]
        addresses = [make_address(host, found.listen_port) for host, found in ports if found is not None]
        return Connected(self._links.keys(), {address for address in addresses if address is not None})
