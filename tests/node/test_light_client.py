"""The light client against a real node, and against one that alters any single thing it says."""

import asyncio
import base64
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from chain.codec import decode, encode
from chain.header import HEADER_BYTES_MAX, Header, Trunk, compute_trunk_hash
from chain.ledger.records import Account
from chain.primitives import ZERO_HASH, Hash, PublicKey, Signature
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof
from chain.ticket import StripOpening, TicketOpening
from node.addresses import format_address
from node.cli import main
from node.exit_codes import ExitCode
from node.keystore import write_key
from node.light import REFUSALS, LightReport, Wanted, verify_node
from node.light_chain import Clock
from node.rpc.client import AsyncRpcClient, BadAnswer, RemoteError, RpcClient
from node.rpc.jsontext import BODY_BYTES_MAX
from node.rpc.methods import (
    DISCOVER,
    GET_ACCOUNT,
    GET_BLOCK,
    GET_CHECKPOINT,
    GET_HEADERS,
    GET_PEERS,
    GET_STATUS,
    GET_TRANSACTION,
    GET_WORK,
    LIST_CONTRIBUTIONS,
    SEND_TRANSACTION,
    AccountParams,
    BlockParams,
    CheckpointParams,
    HashParams,
    HeadersParams,
    RoundParams,
    SendParams,
    make_registry,
)
from node.rpc.registry import Params
from node.rpc.task_methods import GET_TASK, TaskParams
from node.rpc.views import view_header
from tests.support.live_node import HOLDER, LiveNode, run_live_node
from tests.support.tampering import Answer, Tamper, serve_tampered

BLOCKS = 6

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path_factory.mktemp("node")) as node:
        await node.mine(BLOCKS)
        yield node


async def verify(url: str, genesis_hash: Hash, account: PublicKey | None = HOLDER.public_key) -> LightReport:
    clock = Clock(lambda: time.time_ns() // 1_000_000)
    return await asyncio.to_thread(lambda: verify_node(RpcClient(url), genesis_hash, clock, Wanted(account)))


async def test_an_honest_node_is_verified(live: LiveNode) -> None:
    report = await verify(live.url, live.genesis_hash)
    assert report.tip.hash == live.node.parts.chain.head.hash
    assert report.tip.height == BLOCKS
    assert report.balance == 1_000 * 10**9
    heights = [ticket.height for ticket in report.tickets]
    assert heights[-4:] == [3, 4, 5, 6], "the last four are always opened"
    assert heights == sorted(set(heights))
    assert (report.headers, report.samples, report.proof_bytes) == (BLOCKS, 0, 0)
    assert report.received_bytes > 0


async def test_a_transfer_is_sent_and_found(live: LiveNode, tmp_path: Path) -> None:
    path = tmp_path / "holder.json"
    write_key(path, HOLDER, "", is_development=True)
    recipient = format_address(PublicKey(b"\x05" * 32))
    arguments = ["wallet", "send", str(path), recipient, "2.5", "--rpc", live.url]
    assert await asyncio.to_thread(main, arguments) == ExitCode.OK
    async with AsyncRpcClient(live.url) as rpc:
        account = await rpc.call(GET_ACCOUNT, AccountParams(format_address(HOLDER.public_key)))
        assert (account.nonce, account.next_nonce) == (0, 1)
        with pytest.raises(RemoteError, match="encoding"):
            await rpc.call(SEND_TRANSACTION, SendParams(b"\x00"))


async def test_an_absent_account_is_proven_absent(live: LiveNode) -> None:
    report = await verify(live.url, live.genesis_hash, PublicKey(b"\x05" * 32))
    assert report.balance == 0


async def test_another_genesis_is_refused(live: LiveNode) -> None:
    with pytest.raises(REFUSALS, match="genesis"):
        await verify(live.url, Hash(b"\x01" * 32))


def alter_record(answer: Answer, name: str, change: Callable[[bytes], bytes]) -> None:
    answer[name] = base64.b64encode(change(base64.b64decode(str(answer[name])))).decode()


def alter_header(change: Callable[[Header], Header]) -> Tamper:
    """Alter a header and every readable field beside it, as a careful liar would."""

    def tamper(answer: Answer) -> None:
        header = change(decode(Header, base64.b64decode(str(answer["record"])), HEADER_BYTES_MAX))
        view = view_header(header)
        answer.update({name: getattr(view, name) for name in view.__struct_fields__})
        answer["record"] = base64.b64encode(view.record).decode()

    return tamper


def change_foliage(**fields: object) -> Tamper:
    return alter_header(lambda header: replace(header, foliage=replace(header.foliage, **fields)))  # type: ignore[arg-type]


def change_trunk(change: Callable[[Trunk], Trunk]) -> Tamper:
    def apply(header: Header) -> Header:
        trunk = change(header.trunk)
        return replace(header, trunk=trunk, foliage=replace(header.foliage, trunk_hash=compute_trunk_hash(trunk)))

    return alter_header(apply)


def alter_opening(change: Callable[[StripOpening], StripOpening]) -> Tamper:
    def alter(data: bytes) -> bytes:
        opening = decode(TicketOpening, data, 1 << 20)
        return encode(replace(opening, strips_a=(change(opening.strips_a[0]), *opening.strips_a[1:])))

    return lambda answer: alter_record(answer, "opening", alter)


def alter_proof(change: Callable[[StateProof], StateProof]) -> Tamper:
    def alter(data: bytes) -> bytes:
        return encode(change(decode(StateProof, data, STATE_PROOF_BYTES_MAX)))

    return lambda answer: alter_record(answer, "proof", alter)


def set_fields(**fields: object) -> Tamper:
    return lambda answer: answer.update(fields)


def inflate(answer: Answer) -> None:
    """A careful lie about a balance: the value and the readable field agree."""
    answer["balance"] = "5000000000000"
    answer["value"] = base64.b64encode(encode(Account(0, 5_000_000_000_000))).decode()


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


HEADERS, TICKET, ACCOUNT, GENESIS = "chain_getHeaders", "chain_getTicket", "state_getAccount", "chain_getGenesis"
HEAD = "chain_getHead"

LIES: list[tuple[str, str, Tamper]] = [
    ("version", HEADERS, change_foliage(version=2)),
    ("height", HEADERS, change_foliage(height=9)),
    ("parent", HEADERS, change_foliage(parent_hash=ZERO_HASH)),
    ("time", HEADERS, change_foliage(timestamp_ms=1)),
    ("signature", HEADERS, change_foliage(timestamp_ms=time.time_ns() // 1_000_000 + 3_600_000)),
    ("target", HEADERS, change_foliage(target=2**255)),
    ("signature", HEADERS, change_foliage(miner=HOLDER.public_key)),
    ("signature", HEADERS, change_foliage(state_root=Hash(b"\x09" * 32))),
    ("signature", HEADERS, change_foliage(transactions_root=Hash(b"\x09" * 32))),
    ("trunk", HEADERS, change_foliage(trunk_hash=ZERO_HASH)),
    ("history", HEADERS, change_foliage(history_root=ZERO_HASH)),
    ("work", HEADERS, change_trunk(lambda trunk: replace(trunk, total_work=trunk.total_work * 2))),
    ("beacon", HEADERS, change_trunk(lambda trunk: replace(trunk, beacon=ZERO_HASH))),
    ("beacon", HEADERS, change_trunk(lambda trunk: replace(trunk, ticket=replace(trunk.ticket, digest=ZERO_HASH)))),
    ("digest", HEADERS, change_trunk(lambda t: replace(t, ticket=replace(t.ticket, digest=Hash(b"\xff" * 32))))),
    ("signature", HEADERS, change_trunk(lambda t: replace(t, ticket=replace(t.ticket, root_a=ZERO_HASH)))),
    ("signature", HEADERS, alter_header(lambda header: replace(header, signature=Signature(flip(header.signature))))),
    ("header-fields", HEADERS, set_fields(target="0x" + "11" * 32)),
    ("header-fields", HEADERS, set_fields(total_work="1")),
    ("header-fields", HEADERS, set_fields(hash="0x" + "11" * 32)),
    ("canonical", HEADERS, lambda answer: alter_record(answer, "record", lambda data: data + b"\x00")),
    ("tensor|strip|merkle", TICKET, alter_opening(lambda strip: replace(strip, rows=flip(strip.rows)))),
    ("tensor|strip|merkle", TICKET, alter_opening(lambda s: replace(s, path=(Hash(flip(s.path[0])), *s.path[1:])))),
    ("tensor|strip|merkle", TICKET, alter_opening(lambda strip: replace(strip, path=strip.path[:-1]))),
    ("tensor|strip|merkle", TICKET, alter_opening(lambda strip: replace(strip, path=(*strip.path, ZERO_HASH)))),
    ("ticket-header", TICKET, lambda answer: set_fields(height=1234)(answer["header"])),  # type: ignore[arg-type]
    ("balance", ACCOUNT, set_fields(balance="5000000000000")),
    ("nonce", ACCOUNT, set_fields(nonce=5)),
    ("state-proof-root", ACCOUNT, inflate),
    ("state-proof", ACCOUNT, set_fields(value=None, balance="0")),
    (
        "state-proof-root",
        ACCOUNT,
        alter_proof(lambda p: replace(p, siblings=(Hash(flip(p.siblings[0])), *p.siblings[1:]))),
    ),
    ("state-proof-root", ACCOUNT, alter_proof(lambda p: replace(p, siblings=p.siblings[:-1]))),
    ("state-proof-root", ACCOUNT, alter_proof(lambda p: replace(p, siblings=(*p.siblings, ZERO_HASH)))),
    ("state-root", ACCOUNT, set_fields(state_root="0x" + "11" * 32)),
    ("state-header", ACCOUNT, set_fields(header_hash="0x" + "11" * 32)),
    ("state-height", ACCOUNT, set_fields(height=1)),
    ("state-key", ACCOUNT, set_fields(key="0x00")),
    ("genesis", GENESIS, set_fields(genesis_hash="0x" + "11" * 32)),
    ("genesis", GENESIS, set_fields(network="main")),
    ("header-fields", HEAD, set_fields(height=3)),
    ("header-count", HEAD, change_foliage(height=BLOCKS + 1)),
]


@pytest.mark.parametrize(("rule", "method", "tamper"), LIES, ids=[f"{i}-{r}-{m}" for i, (r, m, _) in enumerate(LIES)])
async def test_any_altered_answer_is_refused(live: LiveNode, rule: str, method: str, tamper: Tamper) -> None:
    async with serve_tampered(live.url, {method: tamper}) as server:
        with pytest.raises(REFUSALS, match=rule):
            await verify(server.url, live.genesis_hash)
        assert server.altered


@pytest.mark.parametrize(
    "tamper",
    [
        set_fields(balance=5),
        set_fields(balance="05"),
        set_fields(proof="!"),
        set_fields(height=True),
        lambda a: a.clear(),
    ],
)
async def test_answers_of_another_type_are_refused(live: LiveNode, tamper: Tamper) -> None:
    async with serve_tampered(live.url, {ACCOUNT: tamper}) as server:
        with pytest.raises(BadAnswer):
            await verify(server.url, live.genesis_hash)


async def test_an_untouched_proxy_passes(live: LiveNode) -> None:
    async with serve_tampered(live.url, {}) as server:
        assert (await verify(server.url, live.genesis_hash)).tip.height == BLOCKS


async def test_the_command_verifies_and_refuses(live: LiveNode, capsys: pytest.CaptureFixture[str]) -> None:
    address, genesis = format_address(HOLDER.public_key), f"0x{live.genesis_hash.hex()}"

    def command(url: str) -> int:
        return main(["light", "verify", "--rpc", url, "--genesis", genesis, "--account", address])

    assert await asyncio.to_thread(command, live.url) == ExitCode.OK
    output = capsys.readouterr().out
    assert f"verified  {address} holds 1000 coins" in output
    assert "trusted" in output
    async with serve_tampered(live.url, {ACCOUNT: inflate}) as server:
        assert await asyncio.to_thread(command, server.url) == ExitCode.VERIFICATION_REFUSED
    assert "refused: state-proof-root" in capsys.readouterr().err


async def test_a_spawned_light_client_loads_neither_torch_nor_numba(live: LiveNode) -> None:
    code = (
        "import sys; from node.cli import main;"
        f"code = main(['light', 'verify', '--rpc', '{live.url}', '--genesis', '0x{live.genesis_hash.hex()}']);"
        "sys.exit(code or 99 * any(name in sys.modules for name in ('torch', 'numba', 'plyvel', 'aiohttp')))"
    )
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=quiet)
    assert await process.wait() == ExitCode.OK


async def test_every_reading_method_answers_in_its_type(live: LiveNode) -> None:
    async with AsyncRpcClient(live.url, live.token) as rpc:
        block = await rpc.call(GET_BLOCK, BlockParams(3))
        assert (await rpc.call(GET_BLOCK, BlockParams(block.header.hash))) == block
        headers = await rpc.call(GET_HEADERS, HeadersParams(0, 2_000))
        assert [header.height for header in headers] == list(range(BLOCKS + 1))
        assert (await rpc.call(GET_STATUS, Params())).head.height == BLOCKS
        assert (await rpc.call(GET_TASK, TaskParams())).round == 0
        assert (await rpc.call(GET_CHECKPOINT, CheckpointParams())).round == 0
        assert await rpc.call(LIST_CONTRIBUTIONS, RoundParams()) == []
        assert await rpc.call(GET_PEERS, Params()) == []
        assert (await rpc.call(GET_WORK, Params())).parent.height == BLOCKS
        names = [method.name for method in make_registry()]
        document = await rpc.call(DISCOVER, Params())
        methods = document["methods"]
        assert isinstance(methods, list)
        assert [method["name"] for method in methods] == names


async def test_what_is_absent_is_a_named_error(live: LiveNode) -> None:
    async with AsyncRpcClient(live.url) as rpc:
        for method, params, rule in (
            (GET_BLOCK, BlockParams(10**6), "unknown-height"),
            (GET_BLOCK, BlockParams("0x" + "11" * 32), "unknown-block"),
        ):
            with pytest.raises(RemoteError, match=rule):
                await rpc.call(method, params)
        with pytest.raises(RemoteError, match="unknown-transaction"):
            await rpc.call(GET_TRANSACTION, HashParams("0x" + "11" * 32))
        with pytest.raises(RemoteError, match="cookie"):
            await rpc.call(GET_WORK, Params())


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (403, {"Host": "evil.example"}, b"{}"),
        (403, {"Host": "127.0.0.1.evil.example:80"}, b"{}"),
        (403, {"Origin": "http://evil.example"}, b"{}"),
        (403, {"Origin": "null"}, b"{}"),
        (415, {"Content-Type": "text/plain"}, b"{}"),
        (413, {}, b" " * (BODY_BYTES_MAX + 1)),
    ],
)
async def test_strangers_and_wrong_forms_are_refused(
    live: LiveNode, status: int, headers: dict[str, str], body: bytes
) -> None:
    sent = {"Content-Type": "application/json"} | headers
    async with aiohttp.ClientSession() as session:
        async with session.post(live.url, data=body, headers=sent) as response:
            assert response.status == status
            assert "error" in await response.json()
        async with session.get(live.url) as response:
            assert response.status == 405
