"""An auditor and a contribution's audits as the light client proves them, and against a node that alters any of it."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chain.ledger.records import ContributionKey
from chain.primitives import Hash, PublicKey
from node.addresses import format_address
from node.cli import main
from node.exit_codes import ExitCode
from node.light import REFUSALS, LightReport, Wanted, verify_node
from node.light_chain import Clock
from node.rpc.client import BadAnswer, RpcClient
from tests.node.test_audit_duties import PARAMETERS, make_network, prove
from tests.support.live_node import HOLDER, MINER, SECOND_MINER, LiveNode, run_live_node
from tests.support.tampering import Answer, Tamper, serve_tampered

AUDITED = ContributionKey(SECOND_MINER.public_key, 0)
STRANGER = format_address(HOLDER.public_key)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    """Run a node whose audit of the second miner's segment is proven and not decided."""
    async with run_live_node(tmp_path_factory.mktemp("node"), genesis=make_network()) as node:
        await prove(node)
        yield node


async def verify(
    url: str, genesis_hash: Hash, auditor: PublicKey = MINER.public_key, audited: ContributionKey = AUDITED
) -> LightReport:
    clock, wanted = Clock(lambda: time.time_ns() // 1_000_000), Wanted(None, auditor, (0, audited))
    return await asyncio.to_thread(lambda: verify_node(RpcClient(url), genesis_hash, clock, wanted))


async def test_an_auditor_and_audits_are_proven(live: LiveNode) -> None:
    report = await verify(live.url, live.genesis_hash)
    assert report.auditor is not None
    assert (report.auditor.bond, report.auditor.proven) == (PARAMETERS.auditor_bond, 1)
    assert report.audits is not None
    assert [(each.auditor, each.is_proven) for each in report.audits] == [(MINER.public_key, 1)]
    assert report.balance is None


async def test_what_is_absent_is_proven_absent(live: LiveNode) -> None:
    report = await verify(live.url, live.genesis_hash, HOLDER.public_key, ContributionKey(SECOND_MINER.public_key, 1))
    assert report.auditor is not None
    assert (report.auditor.bond, report.audits) == (0, ())


def set_field(name: str, value: object) -> Tamper:
    return lambda answer: answer.update({name: value})


def set_entry(name: str, value: object) -> Tamper:
    def tamper(answer: Answer) -> None:
        entry = answer["entry"]
        assert isinstance(entry, dict)
        entry[name] = value

    return tamper


def alter_value(answer: Answer) -> None:
    entry = answer["entry"]
    assert isinstance(entry, dict)
    value = base64.b64decode(entry["value"])
    entry["value"] = base64.b64encode(value[:-1] + bytes([value[-1] ^ 1])).decode()


def hide(answer: Answer) -> None:
    """Say that there is no such record, and nothing beside it, with the proof that there is."""
    set_entry("value", None)(answer)
    answer.update({"audits": []} if "audits" in answer else {"bond": "0", "since_height": 0, "proven": 0, "paid": "0"})


ENTRY = [
    ("state-header", set_entry("header_hash", "0x" + "11" * 32)),
    ("state-root", set_entry("state_root", "0x" + "11" * 32)),
    ("state-height", set_entry("height", 1)),
    ("state-key", set_entry("key", "0x00")),
    ("StateProof", set_entry("proof", base64.b64encode(bytes(8)).decode())),
    ("state-proof", alter_value),
    ("state-proof", hide),
]
LIES = [
    *(("auditor_get", rule, tamper) for rule, tamper in ENTRY),
    *(("audit_get", rule, tamper) for rule, tamper in ENTRY),
    ("auditor_get", "auditor", set_field("auditor", STRANGER)),
    *(
        ("auditor_get", "auditor", set_field(name, 7))
        for name in ("since_height", "release_height", "missed", "proven")
    ),
    *(("auditor_get", "auditor", set_field(name, "7")) for name in ("bond", "paid")),
    ("audit_get", "audits", set_field("audits", [])),
    ("audit_get", "audits", set_field("audits", [{"auditor": STRANGER, "is_proven": True}])),
    ("audit_get", "audits", set_field("audits", [{"auditor": format_address(MINER.public_key), "is_proven": False}])),
]


@pytest.mark.parametrize(("method", "rule", "tamper"), LIES, ids=[f"{i}-{m}-{r}" for i, (m, r, _) in enumerate(LIES)])
async def test_any_altered_answer_is_refused(live: LiveNode, method: str, rule: str, tamper: Tamper) -> None:
    async with serve_tampered(live.url, {method: tamper}) as server:
        with pytest.raises(REFUSALS, match=rule):
            await verify(server.url, live.genesis_hash)
        assert server.altered


async def test_answers_of_another_type_are_refused(live: LiveNode) -> None:
    async with serve_tampered(live.url, {"audit_get": set_field("audits", 1)}) as server:
        with pytest.raises(BadAnswer):
            await verify(server.url, live.genesis_hash)


async def test_the_command_tells_and_refuses(live: LiveNode, capsys: pytest.CaptureFixture[str]) -> None:
    miner, genesis = format_address(SECOND_MINER.public_key), f"0x{live.genesis_hash.hex()}"
    auditor = format_address(MINER.public_key)
    wanted = ["--genesis", genesis, "--auditor", auditor, "--audits", f"0/{miner}/0"]

    async def run(url: str, *more: str) -> int:
        return await asyncio.to_thread(main, ["light", "verify", "--rpc", url, *wanted, *more])

    assert await run(live.url) == ExitCode.OK
    shown = capsys.readouterr().out
    assert f"verified  {auditor} has 20 coins locked as an auditor; 1 audits proven, 0 missed since" in shown
    assert f"verified  audits of 0/{miner}/0: {auditor} proven" in shown
    assert await run(live.url, "--json") == ExitCode.OK
    record = json.loads(capsys.readouterr().out)
    assert record["auditor"]["bond_atoms"] == str(PARAMETERS.auditor_bond)
    assert record["audits"] == [{"auditor": auditor, "is_proven": True}]
    async with serve_tampered(live.url, {"auditor_get": set_field("bond", "1")}) as server:
        assert await run(server.url) == ExitCode.VERIFICATION_REFUSED
    for wrong in ("0/mth1nobody/0", "0", f"0/{miner}"):
        assert await run(live.url, "--audits", wrong) == ExitCode.USAGE
