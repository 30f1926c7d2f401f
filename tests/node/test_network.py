"""Two and more nodes over real sockets on loopback, with scripted chains behind them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest

from chain.codec import encode
from chain.errors import StorageError
from chain.hashing import tagged_hash
from chain.header import compute_header_hash
from chain.packed import PackedBlock
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import Sidecar
from node import judge
from node.link import Link
from node.network import Endpoint, Network
from node.observability.tally import Tally
from node.ports import SubmitResult
from node.transport import Dialler
from p2p.errors import RemoteProtocolError
from p2p.handshake import NetworkId, Role, make_session
from p2p.limits import Limits
from p2p.messages import BlockMessage, GetData, Inventory, Item, ItemKind, Message, Ping, Status, TransactionMessage
from p2p.score import Standing
from tests.support.scripted_chain import GENESIS, ScriptedChain, make_block, make_commit, make_transfer

NETWORK = NetworkId(tagged_hash("test.chain"), GENESIS)


@dataclass
class Nodes:
    """Starts nodes and stops them after the test."""

    running: list[Network] = field(default_factory=list)

    async def start(
        self, chain: ScriptedChain, secret: int, *seeds: int, limits: Limits | None = None
    ) -> tuple[Network, int]:
        network = Network(chain, SigningKey(bytes([secret]) * 32), NETWORK, limits)
        port = await network.start("127.0.0.1", 0, tuple(Endpoint("127.0.0.1", seed) for seed in seeds))
        self.running.append(network)
        return network, port


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    before = asyncio.all_tasks()
    found = Nodes()
    yield found
    async with asyncio.timeout(30):
        for network in found.running:
            await network.stop()
    left = {task for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not task.done()}
    assert not left


async def wait_until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def open_link(port: int, secret: int, limits: Limits | None = None) -> tuple[Dialler, Link]:
    """Return a well-behaved handshake's link, for a test to misuse."""
    dialler = Dialler()
    wire = await dialler.dial("127.0.0.1", port, 5)
    key = SigningKey(bytes([secret]) * 32)
    session = make_session(Role.INITIATOR, key, NETWORK, wire.certificate_hash, bytes(32), 0)
    link = Link(wire, session, limits or Limits(), Tally())
    await link.shake_hands()
    return dialler, link


async def send_raw(link: Link, message: Message) -> None:
    await link.wire.send(link._connection.send(message))


async def test_syncs_300_blocks_then_gossips(nodes: Nodes) -> None:
    old, new = ScriptedChain(), ScriptedChain()
    old.extend(300)
    first, port = await nodes.start(old, 1)
    second, _ = await nodes.start(new, 2, port)
    await wait_until(lambda: new.tip == old.tip)
    assert new.heights_imported == list(range(1, 301))

    transfer = old.add_transaction(make_transfer(0))
    first.announce_transaction(transfer)
    await wait_until(lambda: transfer in new.transactions)

    sidecar = Sidecar(b"\x01" * 64, b"\x02" * 500_000)
    sidecar_hash = new.add_sidecar(sidecar)
    commit = make_commit(sidecar)
    second.announce_transaction(new.add_transaction(commit))
    await wait_until(lambda: sidecar_hash in old.sidecars)

    third = ScriptedChain()
    await nodes.start(third, 3, port)
    await wait_until(lambda: third.tip == old.tip)
    block = make_block(new.tip.hash, 301, (commit,))
    second.announce_block(new.add(block))
    await wait_until(lambda: old.tip == new.tip == third.tip)
    assert third.sidecars == new.sidecars
    assert len(first.get_peers()) == 2
    assert {peer.points for peer in first.get_peers()} == {0}


async def test_others_have_a_turn_between_two_messages_of_a_peer(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    network, port = await nodes.start(ScriptedChain(), 1)
    dialler, link = await open_link(port, 2)
    turn, heard, on_message = 0, list[int](), network._on_message

    def note(key: PublicKey, link: Link, message: Message) -> None:
        if isinstance(message, Status):
            heard.append(turn)
        on_message(key, link, message)

    monkeypatch.setattr(network, "_on_message", note)
    for number in range(200):
        await send_raw(link, Status(number, 0))
    async with asyncio.timeout(15):
        while len(heard) < 200:
            turn += 1
            await asyncio.sleep(0)
    assert len(set(heard)) == 200
    await dialler.stop()


async def test_a_transaction_is_read_when_the_block_under_way_is_judged(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, port = await nodes.start(ScriptedChain(), 1)
    dialler, link = await open_link(port, 2)
    heard, on_message = list[str](), network._on_message

    def note(key: PublicKey, link: Link, message: Message) -> None:
        heard.append(type(message).__name__)
        on_message(key, link, message)

    monkeypatch.setattr(network, "_on_message", note)
    monkeypatch.setattr(judge, "BLOCK_WAIT_S", 60.0)
    network._judge._is_block_judged.clear()
    await send_raw(link, Ping(1))
    await send_raw(link, TransactionMessage((encode(make_transfer(0)),)))
    await wait_until(lambda: "Ping" in heard)
    await asyncio.sleep(0.1)
    assert "TransactionMessage" not in heard
    network._judge._is_block_judged.set()
    await wait_until(lambda: "TransactionMessage" in heard)
    await dialler.stop()


async def test_switches_to_the_heavier_branch(nodes: Nodes) -> None:
    light, heavy = ScriptedChain(), ScriptedChain()
    light.extend(20, salt=1)
    heavy.extend(30, salt=2)
    _, port = await nodes.start(light, 1)
    await nodes.start(heavy, 2, port)
    await wait_until(lambda: light.tip == heavy.tip)
    assert heavy.tip.height == 30


async def test_nodes_that_dial_each_other_keep_one_connection(nodes: Nodes) -> None:
    chains = ScriptedChain(), ScriptedChain()
    first, port = await nodes.start(chains[0], 1)
    second, other_port = await nodes.start(chains[1], 2, port)
    first._peering.plan.statics = (Endpoint("127.0.0.1", other_port),)
    await asyncio.sleep(1.5)
    assert [len(first.get_peers()), len(second.get_peers())] == [1, 1]


async def test_reconnects_after_the_seed_restarts(nodes: Nodes) -> None:
    chain, other = ScriptedChain(), ScriptedChain()
    chain.extend(3)
    first, port = await nodes.start(chain, 1)
    second, _ = await nodes.start(other, 2, port)
    await wait_until(lambda: other.tip == chain.tip)
    await first.stop()
    nodes.running.remove(first)
    await wait_until(lambda: not second.get_peers())
    chain.extend(3)
    restarted = Network(chain, SigningKey(b"\x01" * 32), NETWORK)
    nodes.running.append(restarted)
    await restarted.start("127.0.0.1", port, ())
    await wait_until(lambda: other.tip == chain.tip)


async def test_wrong_network_never_connects(nodes: Nodes) -> None:
    first, port = await nodes.start(ScriptedChain(), 1)
    stranger = Network(ScriptedChain(), SigningKey(b"\x02" * 32), NetworkId(tagged_hash("other"), GENESIS))
    nodes.running.append(stranger)
    await stranger.start("127.0.0.1", 0, (Endpoint("127.0.0.1", port),))
    await asyncio.sleep(0.5)
    assert not first.get_peers()
    assert not stranger.get_peers()


async def test_busy_port_is_an_os_error(nodes: Nodes) -> None:
    _, port = await nodes.start(ScriptedChain(), 1)
    second = Network(ScriptedChain(), SigningKey(b"\x02" * 32), NETWORK)
    with pytest.raises(OSError, match="Address already in use"):
        await second.start("127.0.0.1", port, ())
    await second.stop()


async def test_garbage_ends_the_connection_and_bans_the_key(nodes: Nodes) -> None:
    network, port = await nodes.start(ScriptedChain(), 1)
    dialler, link = await open_link(port, 9)
    await wait_until(lambda: len(network.get_peers()) == 1)
    await link.wire.send(b"\x92\x02\xc4\x01\x00")
    await wait_until(lambda: not network.get_peers())
    await dialler.stop()
    dialler, link = await open_link(port, 9)
    with pytest.raises((RemoteProtocolError, OSError, StopAsyncIteration)):
        await anext(link.receive())
    assert not network.get_peers()
    await dialler.stop()


async def test_a_peer_that_has_just_broken_the_protocol_is_sent_nothing_and_ends_nothing_else(nodes: Nodes) -> None:
    chain = ScriptedChain()
    network, port = await nodes.start(chain, 1)
    dialler, _ = await open_link(port, 9)
    await wait_until(lambda: len(network.get_peers()) == 1)
    (theirs,) = network._links.values()
    # As after a frame that is refused, before the connection is dropped.
    theirs._connection.close()
    failed = asyncio.create_task(network.wait_failed())
    network.announce_block(chain.add(make_block(GENESIS, 1)))
    await asyncio.sleep(0.1)
    assert not failed.done()
    failed.cancel()
    await dialler.stop()


async def test_invalid_block_bans_and_unsolicited_content_is_charged(nodes: Nodes) -> None:
    bad, good = ScriptedChain(), ScriptedChain()
    sender, port = await nodes.start(bad, 1)
    receiver, _ = await nodes.start(good, 2, port)
    await wait_until(lambda: bool(sender.get_peers()) and bool(receiver.get_peers()))
    block = make_block(GENESIS, 1)
    good.refused.add(block_hash := bad.add(block))
    sender.announce_block(block_hash)
    await wait_until(lambda: not receiver.get_peers())
    assert good.tip.height == 0

    _, port = await nodes.start(ScriptedChain(), 3)
    network = nodes.running[-1]
    dialler, link = await open_link(port, 9)
    await send_raw(link, TransactionMessage((b"\x90",)))
    await wait_until(lambda: [peer.points for peer in network.get_peers()] == [-5])
    await dialler.stop()


class PatientChain(ScriptedChain):
    """A scripted chain that judges no block before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked, self.is_open = asyncio.Event(), asyncio.Event()

    async def submit_block(self, block: PackedBlock, sidecars: tuple[bytes, ...]) -> SubmitResult:
        self.was_asked.set()
        await self.is_open.wait()
        return await super().submit_block(block, sidecars)


async def test_who_hangs_up_before_an_invalid_block_is_judged_is_charged(nodes: Nodes) -> None:
    chain = PatientChain()
    network, port = await nodes.start(chain, 1)
    dialler, link = await open_link(port, 9)
    block = make_block(GENESIS, 1)
    block_hash = compute_header_hash(block.header)
    chain.refused.add(block_hash)
    await send_raw(link, Inventory((Item(ItemKind.BLOCK, block_hash),)))
    async for message in link.receive():
        if isinstance(message, GetData):
            await send_raw(link, BlockMessage(encode(block)))
            break
    await chain.was_asked.wait()
    await link.close()
    await wait_until(lambda: not network.get_peers())
    chain.is_open.set()
    await wait_until(lambda: network.charges.counts["invalid_block"] == 1)
    key = SigningKey(b"\x09" * 32).public_key
    assert network._doorman.get_standing(key, "127.0.0.1", network._peering.get_now_ms()) is Standing.BANNED
    await dialler.stop()


async def test_flood_is_slowed_to_the_budget(nodes: Nodes) -> None:
    limits = Limits(receive_bytes_per_s=100_000, receive_burst_bytes=50_000)
    network, port = await nodes.start(ScriptedChain(), 1, limits=limits)
    dialler, link = await open_link(port, 9)
    await wait_until(lambda: bool(network.get_peers()))
    question = Inventory(tuple(Item(ItemKind.SIDECAR, Hash(bytes([i % 256]) * 32)) for i in range(1000)))

    async def flood() -> None:
        while True:
            await send_raw(link, question)

    async def drain() -> None:
        async for _ in link.receive():
            pass

    served = network._links[next(iter(network._links))]
    tasks = [asyncio.create_task(flood()), asyncio.create_task(drain())]
    await asyncio.sleep(1.0)
    read_bytes = 50_000_000 - served._bucket._level_milli
    assert read_bytes < 400_000_000, "at most the burst, one second's refill, and one message on credit"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await dialler.stop()


async def test_a_peer_that_asks_and_never_reads_is_dropped(nodes: Nodes) -> None:
    chain = ScriptedChain()
    chain.extend(1)
    network, port = await nodes.start(chain, 1, limits=Limits(serve_backlog_max=2_000))
    dialler, link = await open_link(port, 9)
    await wait_until(lambda: bool(network.get_peers()))
    question = GetData((Item(ItemKind.BLOCK, chain.tip.hash),) * 1000)
    for _ in range(3):
        await send_raw(link, question)
    await wait_until(lambda: not network.get_peers())
    await dialler.stop()


async def test_a_link_whose_answers_fail_ends(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look alive, and say nothing any more."""

    def fail(_name: Hash) -> bytes | None:
        raise StorageError("the disk is broken")

    chain = ScriptedChain()
    monkeypatch.setattr(chain, "get_sidecar_bytes", fail)
    network, port = await nodes.start(chain, 1)
    dialler, link = await open_link(port, 9)
    await wait_until(lambda: len(network.get_peers()) == 1)
    await send_raw(link, GetData((Item(ItemKind.SIDECAR, GENESIS),)))
    await wait_until(lambda: not network.get_peers(), 5.0)
    await dialler.stop()


async def test_silence_during_the_handshake_is_cut_off(nodes: Nodes) -> None:
    network, port = await nodes.start(ScriptedChain(), 1, limits=Limits(handshake_ms=300, half_open_max=2))
    diallers = [Dialler() for _ in range(3)]
    wires = [await dialler.dial("127.0.0.1", port, 5) for dialler in diallers]
    async with asyncio.timeout(30):
        assert await asyncio.gather(*(wire.receive() for wire in wires)) == [None] * 3
    assert not network.get_peers()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=dialler_context())
    assert await asyncio.wait_for(reader.read(), 3) == b"", "a TLS connection that never speaks HTTP is closed"
    writer.close()
    for dialler in diallers:
        await dialler.stop()


def dialler_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_tls_older_than_1_3_and_text_messages_are_refused(nodes: Nodes) -> None:
    network, port = await nodes.start(ScriptedChain(), 1)
    old = dialler_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.ws_connect(f"wss://127.0.0.1:{port}/p2p", ssl=old)
        socket = await session.ws_connect(f"wss://127.0.0.1:{port}/p2p", ssl=dialler_context())
        await socket.send_str("hello")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        socket = await session.ws_connect(f"wss://127.0.0.1:{port}/p2p", ssl=dialler_context())
        await socket.send_bytes(bytes(3 * 1024 * 1024))
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert not network.get_peers()


async def test_a_failing_chain_comes_out(nodes: Nodes) -> None:
    class Failing(ScriptedChain):
        async def submit_headers(self, *_: object) -> object:  # type: ignore[override]
            raise OSError("disk full")

    chain = ScriptedChain()
    chain.extend(1)
    _, port = await nodes.start(chain, 1)
    network, _ = await nodes.start(Failing(), 2, port)
    with pytest.raises(OSError, match="disk full"):
        await asyncio.wait_for(network.wait_failed(), 10)
