"""The light client's compact way against a real node, and against one that alters any single part of a proof."""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from chain.codec import decode, encode
from chain.header import Header
from chain.primitives import Hash, Signature
from consensus.header_chain import make_entry
from consensus.header_proof import PROOF_BYTES_MAX, HeaderProof
from node.cli import main
from node.exit_codes import ExitCode
from node.light import REFUSALS, LightReport, Wanted, verify_node
from node.light_chain import ChainReader, Clock, Policy
from node.rpc.client import AsyncRpcClient, RemoteError, RpcClient
from node.rpc.methods import PROVE_CHAIN, PROVE_HEADERS, ChainProofParams, HeaderProofParams
from node.rpc.views import to_hex
from tests.node.test_light_client import HEAD, TICKET, alter_opening, alter_record, change_foliage, flip, set_fields
from tests.support.live_node import HOLDER, LiveNode, run_live_node
from tests.support.tampering import Answer, Tamper, serve_tampered

BLOCKS = 44
POLICY = Policy(whole_blocks_max=0, security_bits=10, stretch_blocks=8, tickets_last=2, tickets_drawn=6)
DEEP = replace(POLICY, security_bits=60, tickets_drawn=40)
"""Draws enough that some hit the early blocks whose anchors have to be asked for: the first has half the deep work."""

CHAIN = "light_proveChain"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path_factory.mktemp("node")) as node:
        await node.mine(BLOCKS)
        yield node


def draw_from(draws: list[int]) -> Callable[[int], int]:
    def draw_below(limit: int) -> int:
        return draws.pop(0) if draws else secrets.randbelow(limit)

    return draw_below


async def verify(url: str, genesis_hash: Hash, policy: Policy = POLICY, draws: list[int] | None = None) -> LightReport:
    clock = Clock(lambda: time.time_ns() // 1_000_000, draw_from(draws or []))
    return await asyncio.to_thread(verify_node, RpcClient(url), genesis_hash, clock, Wanted(HOLDER.public_key), policy)


async def test_an_honest_node_is_verified_from_few_headers(live: LiveNode) -> None:
    report = await verify(live.url, live.genesis_hash)
    head = live.node.parts.chain.head
    assert report.tip.hash == head.hash
    assert report.tip.first_height == BLOCKS - 8 - 11 + 1
    assert report.samples >= 5
    assert report.headers <= BLOCKS + 6, "every block at most, and the anchors"
    assert 8_000 < report.proof_bytes < report.received_bytes
    heights = [ticket.height for ticket in report.tickets]
    assert heights[-2:] == [BLOCKS - 1, BLOCKS]
    assert report.balance == 1_000 * 10**9


async def test_deep_tickets_are_opened_with_proven_anchors(live: LiveNode) -> None:
    report = await verify(live.url, live.genesis_hash, DEEP)
    assert min(ticket.height for ticket in report.tickets) < report.tip.first_height


async def test_a_public_seed_works_without_a_secret(live: LiveNode) -> None:
    report = await verify(live.url, live.genesis_hash, replace(POLICY, is_public=True))
    assert report.tip.hash == live.node.parts.chain.head.hash


async def test_long_chains_alone_are_sampled(live: LiveNode) -> None:
    assert (await verify(live.url, live.genesis_hash, Policy())).samples == 0
    assert (await verify(live.url, live.genesis_hash, replace(POLICY, whole_blocks_max=None))).samples == 0
    assert (await verify(live.url, live.genesis_hash, replace(POLICY, stretch_blocks=100))).samples == 0


def alter_proof(change: Callable[[HeaderProof], HeaderProof]) -> Tamper:
    def alter(data: bytes) -> bytes:
        return encode(change(decode(HeaderProof, data, PROOF_BYTES_MAX)))

    return lambda answer: alter_record(answer, "record", alter)


def alter_node(place: int, **fields: object) -> Tamper:
    def change(proof: HeaderProof) -> HeaderProof:
        nodes = list(proof.nodes)
        nodes[place] = replace(nodes[place], **fields)  # type: ignore[arg-type]  # fields by name
        return replace(proof, nodes=tuple(nodes))

    return alter_proof(change)


def alter_header(place: int, change: Callable[[Header], Header]) -> Tamper:
    def apply(proof: HeaderProof) -> HeaderProof:
        headers = list(proof.headers)
        headers[place] = change(headers[place])
        return replace(proof, headers=tuple(headers))

    return alter_proof(apply)


def reverse_headers(proof: HeaderProof) -> HeaderProof:
    return replace(proof, headers=proof.headers[::-1])


def repeat_header(proof: HeaderProof) -> HeaderProof:
    return replace(proof, headers=(proof.headers[0], *proof.headers))


def grow_proof(answer: Answer) -> None:
    answer["record"] = base64.b64encode(bytes(PROOF_BYTES_MAX + 1)).decode()


def unsign(header: Header) -> Header:
    return replace(header, signature=Signature(flip(header.signature)))


def inflate(header: Header) -> Header:
    return replace(header, foliage=replace(header.foliage, target=header.foliage.target // 1_000))


LIES: list[tuple[str, str, Tamper]] = [
    ("proof-root|proof-parent", CHAIN, alter_node(0, work=b"\x7f")),
    ("proof-root|proof-parent", CHAIN, alter_node(0, digest=Hash(bytes(32)))),
    ("proof-root|proof-parent", CHAIN, alter_node(0, last_ms=5)),
    ("proof-work", CHAIN, alter_node(0, work=b"\xff" * 32)),
    ("proof-work", CHAIN, alter_node(0, work=b"\x00\x01")),
    ("proof-time", CHAIN, alter_node(0, first_ms=2**64 - 1)),
    ("proof-nodes", CHAIN, alter_proof(lambda proof: replace(proof, nodes=proof.nodes[1:]))),
    ("proof-nodes", CHAIN, alter_proof(lambda proof: replace(proof, nodes=(*proof.nodes, proof.nodes[0])))),
    ("proof-height|proof-stretch", CHAIN, alter_proof(reverse_headers)),
    ("proof-height", CHAIN, alter_proof(repeat_header)),
    ("proof-stretch", CHAIN, alter_proof(lambda proof: replace(proof, headers=proof.headers[:-1]))),
    ("proof-stretch", CHAIN, alter_proof(lambda proof: HeaderProof((), ()))),
    ("signature", CHAIN, alter_header(0, unsign)),
    ("signature", CHAIN, alter_header(-1, unsign)),
    ("proof-root|proof-parent", CHAIN, alter_header(0, inflate)),
    ("proof-root", CHAIN, alter_header(-1, inflate)),
    ("found 4194305 bytes, expected at most", CHAIN, grow_proof),
    ("not msgpack|canonical", CHAIN, lambda answer: alter_record(answer, "record", lambda data: data[:-9])),
    ("canonical", CHAIN, lambda answer: alter_record(answer, "record", lambda data: data + b"\x00")),
    ("proof-tip", CHAIN, set_fields(tip="0x" + "11" * 32)),
    ("header-fields", HEAD, set_fields(total_work="1")),
    ("signature", HEAD, change_foliage(state_root=Hash(bytes(32)))),
    ("tensor|strip|merkle", TICKET, alter_opening(lambda strip: replace(strip, rows=flip(strip.rows)))),
    ("ticket-header", TICKET, lambda answer: set_fields(height=1)(answer["header"])),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("rule", "method", "tamper"), LIES, ids=[f"{i}-{r}-{m}" for i, (r, m, _) in enumerate(LIES)])
async def test_any_altered_proof_is_refused(live: LiveNode, rule: str, method: str, tamper: Tamper) -> None:
    async with serve_tampered(live.url, {method: tamper}) as server:
        # A head that another node never had is not known to the honest one behind the liar.
        expected = (*REFUSALS, RemoteError)
        with pytest.raises(expected, match=f"{rule}|unknown-header"):
            await verify(server.url, live.genesis_hash, DEEP)
        assert server.altered


@pytest.mark.parametrize(
    ("rule", "tamper"),
    [
        ("proof-heights", alter_proof(lambda proof: HeaderProof((), ()))),
        ("proof-nodes", alter_proof(lambda proof: replace(proof, nodes=proof.nodes[1:]))),
        ("signature", alter_header(0, unsign)),
    ],
)
async def test_any_altered_proof_of_single_headers_is_refused(live: LiveNode, rule: str, tamper: Tamper) -> None:
    """Which headers a client asks for by themselves follows from its draws; here it is told."""
    chain = live.node.parts.chain
    clock = Clock(lambda: time.time_ns() // 1_000_000)

    def read(url: str) -> int:
        reader = ChainReader(RpcClient(url), chain.header_context, clock, chain.head.get_ancestor(0))
        reader.fetch(POLICY)
        return len(reader.fetch_headers([3, 9]))

    async with serve_tampered(live.url, {"light_proveHeaders": tamper}) as server:
        assert await asyncio.to_thread(read, live.url) == 2
        with pytest.raises(REFUSALS, match=rule):
            await asyncio.to_thread(read, server.url)
        assert server.altered


async def test_the_node_bounds_what_it_is_asked(live: LiveNode) -> None:
    tip = to_hex(live.node.parts.chain.head.hash)
    async with AsyncRpcClient(live.url) as rpc:
        for chain_params, rule in (
            (ChainProofParams(tip, 50, 100), "proof-length"),
            (ChainProofParams(tip, 129, 8), "parameter-type"),
            (ChainProofParams(tip, 50, 0), "parameter-type"),
            (ChainProofParams("0x" + "11" * 32, 50, 8), "unknown-header"),
        ):
            with pytest.raises(RemoteError, match=rule):
                await rpc.call(PROVE_CHAIN, chain_params)
        for heights, rule in (
            ([0], "proof-height"),
            ([3, 3], "proof-height"),
            ([4, 3], "proof-height"),
            ([BLOCKS], "proof-height"),
            ([], "parameter-type"),
            (list(range(1, 258)), "parameter-type"),
        ):
            with pytest.raises(RemoteError, match=rule):
                await rpc.call(PROVE_HEADERS, HeaderProofParams(tip, heights))


async def test_a_proven_chain_is_followed_to_the_accounts_height(live: LiveNode) -> None:
    """The proof may be of an older tip than the account: the headers between are taken one by one."""
    client_tip = (await verify(live.url, live.genesis_hash)).tip
    await live.mine(1)
    head = live.node.parts.chain.head
    assert make_entry(head.header, client_tip).hash == head.hash
    assert (await verify(live.url, live.genesis_hash)).tip.hash == head.hash


async def test_the_command_tells_what_was_checked(
    live: LiveNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["light", "verify", "--rpc", live.url, "--genesis", f"0x{live.genesis_hash.hex()}", "--tickets", "3"]
    assert await asyncio.to_thread(main, [*arguments, "--full", "--json"]) == ExitCode.OK
    whole = json.loads(capsys.readouterr().out)
    assert (whole["samples"], whole["proof_bytes"], whole["headers"]) == (0, 0, whole["height"])
    assert len(whole["tickets"]) <= 3 + 4
    monkeypatch.setattr("node.light_chain.Policy", lambda *_, **__: POLICY)
    assert await asyncio.to_thread(main, [*arguments, "--json"]) == ExitCode.OK
    compact = json.loads(capsys.readouterr().out)
    assert compact["head"] == whole["head"]
    assert compact["samples"] >= 5
    assert compact["received_bytes"] > compact["proof_bytes"] > 8_000
    assert await asyncio.to_thread(main, arguments) == ExitCode.OK
    assert f"headers, {compact['samples']} places drawn by work," in capsys.readouterr().out
