"""Nodes that find each other over real sockets on loopback: addresses, slots, bans and what outlives a restart."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from chain.hashing import tagged_hash
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from node.doorman import Doorman
from node.link import Link
from node.network import Network
from node.observability.tally import Tally
from node.peer_files import PeerFiles
from node.peering import PeeringOptions
from node.transport import Dialler
from p2p.address_file import BansRecord, BookRecord, seal, take_snapshot, unseal
from p2p.addresses import PeerAddress, SeenAddress, compute_prefix
from p2p.budgets import RATES
from p2p.dialling import Endpoint
from p2p.errors import RemoteProtocolError
from p2p.handshake import NetworkId, Role, make_session
from p2p.limits import Limits
from p2p.messages import Addresses, GetAddresses, Inventory, Item, ItemKind, Message, Observed, Ping, Pong
from p2p.score import BAN_MS, Fault, Standing
from p2p.slots import SlotKind
from tests.support.peer_addresses import at
from tests.support.scripted_chain import GENESIS, ScriptedChain

NETWORK = NetworkId(tagged_hash("test.chain"), GENESIS)
LOOPBACK = "127.0.0.1"


def make_key(secret: int) -> SigningKey:
    return SigningKey(bytes([secret]) * 32)


@dataclass
class Peers:
    """Nodes and scripted peers of one test, all ended after it."""

    nodes: list[Network] = field(default_factory=list)
    diallers: list[Dialler] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    """A link that nobody holds closes itself."""

    async def start(
        self,
        secret: int,
        peers: tuple[int, ...] = (),
        seeds: tuple[int, ...] = (),
        files: PeerFiles | None = None,
        limits: Limits | None = None,
    ) -> Network:
        options = PeeringOptions(tuple(Endpoint(LOOPBACK, port) for port in seeds), None, files)
        network = Network(ScriptedChain(), make_key(secret), NETWORK, limits, options=options)
        self.nodes.append(network)
        await network.start(LOOPBACK, 0, tuple(Endpoint(LOOPBACK, port) for port in peers))
        return network

    async def stop(self, network: Network) -> None:
        self.nodes.remove(network)
        await network.stop()

    async def visit(self, network: Network, secret: int, listen_port: int = 0) -> Link:
        """Return the link of a scripted peer whose handshake is over."""
        dialler = Dialler()
        self.diallers.append(dialler)
        wire = await dialler.dial(LOOPBACK, network._port, 5)
        session = make_session(Role.INITIATOR, make_key(secret), NETWORK, wire.certificate_hash, bytes(32), listen_port)
        link = Link(wire, session, Limits(), Tally())
        await link.shake_hands()
        self.links.append(link)
        return link


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    found = Peers()
    yield found
    for network in found.nodes:
        await network.stop()
    for dialler in found.diallers:
        await dialler.stop()


async def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def send(link: Link, message: Message) -> None:
    await link.wire.send(link._connection.send(message))


async def receive(link: Link, kind: type[Message]) -> Message:
    """Return the next message of a kind."""
    async with asyncio.timeout(10):
        async for message in link.receive():
            if isinstance(message, kind):
                return message
    raise AssertionError("the connection ended")


def read_record(name: str, data: bytes) -> BookRecord | BansRecord:
    return unseal(BookRecord, data) if name == "addresses" else unseal(BansRecord, data)


def get_kinds(network: Network) -> dict[PublicKey, SlotKind]:
    return {peer.key: peer.kind for peer in network.get_peers()}


async def test_nodes_that_know_one_seed_find_each_other(peers: Peers) -> None:
    seed = await peers.start(1)
    first = await peers.start(2, seeds=(seed._port,))
    await wait_until(lambda: get_kinds(first).get(make_key(1).public_key) in (SlotKind.FULL, SlotKind.INBOUND))
    second = await peers.start(3, seeds=(seed._port,))
    await wait_until(lambda: make_key(2).public_key in get_kinds(second))
    await wait_until(lambda: make_key(1).public_key in get_kinds(second))
    assert SlotKind.SEED not in get_kinds(second).values(), "a seed is left once it has answered"
    found = {peer.origin for peer in second.get_peers()}
    assert found <= {"new", "tried", "inbound"}


async def test_the_tried_come_first_after_a_restart_and_static_peers_always(peers: Peers, tmp_path: Path) -> None:
    other = await peers.start(1)
    files = PeerFiles(tmp_path / "peers")
    node = await peers.start(2, peers=(other._port,), files=files)
    await wait_until(lambda: get_kinds(node) == {make_key(1).public_key: SlotKind.STATIC})
    await peers.stop(node)
    record = files.load_book()
    assert record is not None
    assert [(entry.address.port, entry.is_tried) for entry in record.entries] == [(other._port, 1)]
    again = await peers.start(2, files=files)
    assert again._peering.book.salt == record.salt, "places stay"
    await wait_until(lambda: get_kinds(again) == {make_key(1).public_key: SlotKind.FULL})
    assert [peer.origin for peer in again.get_peers()] == ["tried"]


async def test_an_anchor_is_dialled_first_and_exchanges_no_addresses(peers: Peers, tmp_path: Path) -> None:
    other = await peers.start(1)
    files = PeerFiles(tmp_path / "peers")
    anchor = at(LOOPBACK, other._port)
    files.save(take_snapshot(other._peering.book, (anchor,)))
    node = await peers.start(2, files=files)
    await wait_until(lambda: get_kinds(node) == {make_key(1).public_key: SlotKind.BLOCK_ONLY})
    assert [peer.origin for peer in node.get_peers()] == ["anchor"]
    assert not node._peering.addresses._peers
    await peers.stop(node)
    record = files.load_book()
    assert record is not None
    assert record.anchors == (anchor,)


async def test_a_feeler_moves_an_address_to_the_tried_ones_and_leaves(peers: Peers) -> None:
    other = await peers.start(1)
    node = await peers.start(2, limits=Limits(full_max=0, block_only_max=0))
    address = at(LOOPBACK, other._port)
    node._peering.book.add(SeenAddress(address, 0), compute_prefix(address.ip), node._peering.get_now_ms())
    node._peering.plan._feeler_ms = 0

    def is_tried() -> bool:
        entry = node._peering.book.get(address)
        return entry is not None and entry.is_tried

    await wait_until(is_tried)
    await wait_until(lambda: not node._peering.plan._active)
    assert not node.get_peers()


async def test_a_node_that_dials_itself_notices_and_forgets_the_address(peers: Peers) -> None:
    node = await peers.start(1)
    own = at(LOOPBACK, node._port)
    assert node._peering.book.add(SeenAddress(own, 0), compute_prefix(own.ip), node._peering.get_now_ms())
    await wait_until(lambda: node._peering.book.get(own) is None)
    assert not node.get_peers()
    assert not node._peering.book.add(SeenAddress(own, 0), compute_prefix(own.ip), node._peering.get_now_ms())


async def test_a_flood_of_addresses_leaves_a_handful(peers: Peers) -> None:
    node = await peers.start(1, limits=Limits(full_max=0, block_only_max=0))
    link = await peers.visit(node, 9)
    await wait_until(lambda: bool(node.get_peers()))
    for turn in range(8):
        addresses = (PeerAddress(at(f"127.{turn}.{n // 256}.{n % 256}").ip, 4610) for n in range(1_000))
        await send(link, Addresses(tuple(SeenAddress(address, 0) for address in addresses)))
    await send(link, Ping(1))
    await receive(link, Pong)
    assert 1 <= len(node._peering.book) <= 5
    assert [peer.points for peer in node.get_peers()] == [0], "slow, not punished"


async def test_too_many_addresses_in_one_message_break_the_protocol(peers: Peers) -> None:
    node = await peers.start(1)
    link = await peers.visit(node, 9)
    await wait_until(lambda: bool(node.get_peers()))
    entry = bytes.fromhex("9292c410") + at(LOOPBACK).ip + bytes.fromhex("cd120200")
    payload = bytes.fromhex("91dc03e9") + entry * 1_001
    kind = 14
    await link.wire.send(b"\x92" + bytes([kind]) + b"\xc5" + len(payload).to_bytes(2, "big") + payload)
    await wait_until(lambda: not node.get_peers())
    assert node.charges.counts["protocol"] == 1


async def test_an_inbound_peer_asks_once_and_learns_how_it_is_seen(peers: Peers) -> None:
    node = await peers.start(1, limits=Limits(full_max=0, block_only_max=0))
    known = [at(LOOPBACK, 2_000 + number) for number in range(20)]
    for number, address in enumerate(known):
        node._peering.book.add(SeenAddress(address, 0), compute_prefix(at(f"9.{number}.1.1").ip), 10**12)
    link = await peers.visit(node, 9, listen_port=7_777)
    assert await receive(link, Observed) == Observed(at(LOOPBACK).ip)
    assert node._peering.book.get(at(LOOPBACK, 7_777)) is not None
    await send(link, GetAddresses(1_000))
    answer = await receive(link, Addresses)
    assert isinstance(answer, Addresses)
    assert {seen.address for seen in answer.addresses} <= {*known, at(LOOPBACK, 7_777)}
    await send(link, GetAddresses(1_000))
    await send(link, Ping(5))
    assert await receive(link, Pong) == Pong(5)


async def test_two_peers_confirm_where_a_node_is_seen_and_others_hear_of_it(peers: Peers) -> None:
    others = [await peers.start(secret) for secret in (1, 2)]
    node = await peers.start(3, peers=tuple(other._port for other in others))
    own = at(LOOPBACK, node._port)
    await wait_until(lambda: node._peering.addresses.advertised == own)


async def test_a_banned_key_is_refused_after_a_restart_too(peers: Peers, tmp_path: Path) -> None:
    files = PeerFiles(tmp_path / "peers")
    node = await peers.start(1, files=files)
    link = await peers.visit(node, 9)
    await wait_until(lambda: bool(node.get_peers()))
    await link.wire.send(b"\x92\x02\xc4\x01\x00")
    await wait_until(lambda: not node.get_peers())
    await wait_until((tmp_path / "peers" / "bans").exists, 5)
    bans = files.load_bans()
    assert bans is not None
    assert [ban.name for ban in bans.bans] == [bytes(make_key(9).public_key)]
    await peers.stop(node)
    again = await peers.start(1, files=files)
    link = await peers.visit(again, 9)
    with pytest.raises((RemoteProtocolError, OSError, StopAsyncIteration)):
        await anext(link.receive())
    assert not again.get_peers()
    other = await peers.visit(again, 8)
    await wait_until(lambda: get_kinds(again) == {make_key(8).public_key: SlotKind.INBOUND})
    await other.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "version"])
async def test_a_damaged_file_is_set_aside_and_the_node_starts(peers: Peers, tmp_path: Path, damage: str) -> None:
    root = tmp_path / "peers"
    files = PeerFiles(root)
    node = await peers.start(1, files=files)
    await peers.stop(node)
    for name in ("addresses", "bans"):
        data = bytearray((root / name).read_bytes())
        if damage == "version":
            data = bytearray(seal(replace(read_record(name, bytes(data)), version=2)))
        elif damage == "flip":
            data[-1] ^= 1
        else:
            del data[len(data) // 2 if damage == "cut" else 0 :]
        (root / name).write_bytes(data)
    again = await peers.start(1, files=files)
    assert len(again._peering.book) == 0
    assert sorted(path.name for path in root.iterdir()) == ["addresses.damaged", "bans.damaged"]
    await peers.stop(again)
    assert sorted(path.name for path in root.iterdir()) == ["addresses", "addresses.damaged", "bans", "bans.damaged"]


async def test_files_that_cannot_be_written_stop_nobody(peers: Peers, tmp_path: Path) -> None:
    (tmp_path / "peers").write_text("a file where the folder should be")
    node = await peers.start(1, files=PeerFiles(tmp_path / "peers"))
    await peers.stop(node)


async def test_a_newcomer_takes_the_place_of_an_unprotected_guest_and_none_else(peers: Peers) -> None:
    node = await peers.start(1, limits=Limits(inbound_max=20))
    for secret in range(10, 30):
        await peers.visit(node, secret)
    await wait_until(lambda: len(node.get_peers()) == 20)
    before = set(get_kinds(node))
    await peers.visit(node, 40)
    await wait_until(lambda: make_key(40).public_key in get_kinds(node))
    assert len(before - set(get_kinds(node))) == 1
    assert len(node.get_peers()) == 20


async def test_when_all_guests_are_protected_a_newcomer_is_refused(peers: Peers) -> None:
    node = await peers.start(1, limits=Limits(inbound_max=3))
    for secret in (10, 11, 12):
        await peers.visit(node, secret)
    await wait_until(lambda: len(node.get_peers()) == 3)
    before = set(get_kinds(node))
    link = await peers.visit(node, 13)
    with pytest.raises((OSError, StopAsyncIteration)):
        await anext(link.receive())
    assert set(get_kinds(node)) == before


async def test_storms_of_small_messages_are_read_at_their_budget(peers: Peers) -> None:
    node = await peers.start(1)
    link = await peers.visit(node, 9)
    await wait_until(lambda: bool(node.get_peers()))
    rate, burst = RATES[Ping]
    for number in range(3 * burst):
        await send(link, Ping(number))
    answers = 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            async for message in link.receive():
                answers += isinstance(message, Pong)
    assert burst <= answers <= burst + 4 * rate


async def test_a_gossip_storm_has_a_bounded_number_of_items_looked_for(peers: Peers) -> None:
    limits = Limits()
    node = await peers.start(1, limits=limits)
    links = [await peers.visit(node, secret) for secret in (8, 9)]
    await wait_until(lambda: len(node.get_peers()) == 2)
    for turn in range(20):
        for number, link in enumerate(links):
            names = ((number, turn, item) for item in range(1_000))
            hashes = (Hash(b"".join(part.to_bytes(4, "big") for part in name) + bytes(20)) for name in names)
            await send(link, Inventory(tuple(Item(ItemKind.TRANSACTION, name) for name in hashes)))
    for link in links:
        await send(link, Ping(3))
        await receive(link, Pong)
    assert len(node._relay._fetcher._wants) <= 2 * limits.wants_per_peer_max


async def test_peers_are_described_with_bytes_latency_and_slot(peers: Peers) -> None:
    other = await peers.start(1)
    node = await peers.start(2, peers=(other._port,))
    await wait_until(lambda: bool(node.get_peers()) and node.get_peers()[0].latency_ms is not None)
    (mine,), (theirs,) = node.get_peers(), other.get_peers()
    assert (mine.kind, mine.origin, mine.is_inbound) == (SlotKind.STATIC, "static", False)
    assert (theirs.kind, theirs.origin, theirs.is_inbound) == (SlotKind.INBOUND, "inbound", True)
    assert (mine.listen_port, theirs.listen_port) == (other._port, node._port)
    assert min(mine.received_bytes, mine.sent_bytes, theirs.received_bytes, theirs.sent_bytes) > 0


def test_a_ban_of_a_time_when_the_clock_ran_ahead_lasts_no_longer_than_any() -> None:
    name, now_ms, year_ms = make_key(9).public_key, 1_000_000, 365 * BAN_MS
    before, doorman = Doorman(Limits()), Doorman(Limits())
    before.charge(name, "127.0.0.1", Fault.PROTOCOL, now_ms + year_ms)
    doorman.restore_bans(before.make_bans_record(now_ms + year_ms), now_ms)
    standings = [doorman.get_standing(name, "127.0.0.1", now_ms + wait_ms) for wait_ms in (BAN_MS - 1, BAN_MS)]
    assert standings == [Standing.BANNED, Standing.GOOD]
