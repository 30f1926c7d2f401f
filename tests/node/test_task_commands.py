"""`mathesis task` against a running node: a bounty is put up, shown, proven and sent back; wrong ones are refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from chain.codec import decode
from chain.ledger.accounts import get_account
from chain.ledger.economy_records import Bounty
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof, verify_exclusion, verify_inclusion
from node.addresses import format_address
from node.cli import main
from node.exit_codes import ExitCode
from node.models.specs import format_spec
from node.rpc.bounty_methods import GET_BOUNTY, LIST_BOUNTIES, BountyParams, BountyView
from node.rpc.client import AsyncRpcClient
from node.rpc.task_methods import TaskParams
from node.rpc.views import from_hex
from tests.support.live_node import HOLDER, LiveNode, run_live_node
from tests.support.posting import SPEC
from tests.support.wallets import make_wallet

FEE = 1_000_000


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path / "node") as node:
        await node.mine(1)
        yield node


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a data directory with a wallet key of someone who has coins."""
    return make_wallet(tmp_path / "own", default=HOLDER)


async def run(live: LiveNode, *arguments: str) -> int:
    return await asyncio.to_thread(main, ["task", *arguments, "--rpc", live.url, "--json"])


async def ask(live: LiveNode, bounty: str) -> BountyView:
    async with AsyncRpcClient(live.url) as rpc:
        return await rpc.call(GET_BOUNTY, BountyParams(bounty))


def get_balance(live: LiveNode) -> int:
    return get_account(live.node.parts.chain.view(), HOLDER.public_key).balance


async def test_a_bounty_is_put_up_shown_proven_and_sent_back(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = get_balance(live)
    arguments = ("bounty", "5", "--correct", "360", "--blocks", "8", "--dir", str(directory))
    assert await run(live, *arguments) == ExitCode.OK
    made = json.loads(capsys.readouterr().out)
    await live.mine(1)
    assert get_balance(live) == before - 5 * 10**9 - FEE
    assert await run(live, "show") == ExitCode.OK
    task, bounty = map(json.loads, capsys.readouterr().out.splitlines())
    assert (task["name"], task["bounties"]) == ("digits", 1)
    assert bounty["bounty"] == made["bounty"]
    assert (bounty["poster"], bounty["correct_min"]) == (format_address(HOLDER.public_key), 360)
    shown = await ask(live, made["bounty"])
    assert shown.entry.value is not None
    assert decode(Bounty, shown.entry.value, 1024).terms.last_height == made["last_height"] == 9
    root, key = from_hex(shown.entry.state_root), bytes.fromhex(shown.entry.key[2:])
    proof = decode(StateProof, shown.entry.proof, STATE_PROOF_BYTES_MAX)
    verify_inclusion(root, key, shown.entry.value, proof)
    # The round that ends in its last block reaches nothing; the next one is too late.
    await live.mine(16)
    assert get_balance(live) == before - FEE
    gone = await ask(live, made["bounty"])
    assert (gone.amount, gone.entry.value) == (None, None)
    absence = decode(StateProof, gone.entry.proof, STATE_PROOF_BYTES_MAX)
    verify_exclusion(from_hex(gone.entry.state_root), key, absence)
    async with AsyncRpcClient(live.url) as rpc:
        assert (await rpc.call(LIST_BOUNTIES, TaskParams())).bounties == []


async def test_what_the_ledger_refuses_is_told_by_its_rule(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("--dir", str(directory))
    assert await run(live, "bounty", "0.5", "--correct", "360", *own) == ExitCode.FAILURE
    assert "bounty-amount" in capsys.readouterr().err
    assert await run(live, "bounty", "100000", "--correct", "360", *own) == ExitCode.FAILURE
    assert "balance" in capsys.readouterr().err
    assert await run(live, "bounty", "5", *own) == ExitCode.USAGE
    assert await run(live, "bounty", "5", "--correct", "0", *own) == ExitCode.USAGE
    assert await run(live, "bounty", "5", "--correct", "1", "--blocks", "0", *own) == ExitCode.USAGE


async def test_a_task_is_posted_funded_and_listed(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spec = tmp_path / "narrow.json"
    spec.write_text(format_spec(SPEC), encoding="utf-8")
    name = "nar\u202erow"
    terms = ("--name", name, "--licence", "MIT", "--blocks", "60", "--dir", str(directory))
    assert await run(live, "post", str(spec), "40", "--name", "nar\nrow", *terms[2:]) == ExitCode.FAILURE
    assert "model-name" in capsys.readouterr().err
    assert await run(live, "post", str(spec), "40", *terms, "--source", "0x" + "07" * 32) == ExitCode.FAILURE
    assert "dataset-unknown" in capsys.readouterr().err
    assert await run(live, "post", str(spec), "40", *terms) == ExitCode.OK
    posted = json.loads(capsys.readouterr().out)
    await live.mine(1)
    assert await run(live, "fund", posted["task"], "2", "--dir", str(directory)) == ExitCode.OK
    await live.mine(1)
    capsys.readouterr()
    assert await run(live, "list") == ExitCode.OK
    own, other = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (own["last_height"], other["task"], other["name"]) == (None, posted["task"], name)
    for listing in (["task", "list"], ["model", "list"]):
        assert await asyncio.to_thread(main, [*listing, "--rpc", live.url]) == ExitCode.OK
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert "\u202e" not in "".join(lines), "a name that strangers chose turns no line around"
    assert other["pot_coins"] == "42"
    assert other["price"] == own["price"]
    assert await run(live, "show", posted["task"]) == ExitCode.OK
    shown = json.loads(capsys.readouterr().out)
    assert (shown["last_height"], shown["is_live"]) == (posted["last_height"], True)
    assert await run(live, "bounty", "3", "--correct", "10", "--task", posted["task"], "--dir", str(directory)) == 0
    await live.mine(1)
    capsys.readouterr()
    assert await run(live, "show", posted["task"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out.splitlines()[0])["bounties"] == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("post", "nothing", "40", "--name", "x", "--licence", "MIT"), ExitCode.USAGE),
        (("post", "digits", "40", "--name", "x", "--licence", "MIT", "--price", "0"), ExitCode.USAGE),
        (("post", "digits", "40", "--name", "x", "--licence", "MIT", "--price", "9" * 5_000), ExitCode.USAGE),
        (("post", "digits", "40", "--name", "x", "--licence", "MIT", "--dataset", f"0x{'0' * 64}"), ExitCode.FAILURE),
        (("post", "digits", "40", "--name", "x", "--licence", "MIT"), ExitCode.FAILURE),
        (("post", "digits", "9", "--name", "x", "--licence", "MIT"), ExitCode.FAILURE),
        (("fund", f"0x{'0' * 64}", "2"), ExitCode.FAILURE),
    ],
)
async def test_what_cannot_be_posted_is_told_in_one_line(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: ExitCode
) -> None:
    """The fourth is genesis' own spec, whose first checkpoint is registered."""
    assert await run(live, *arguments, "--dir", str(directory)) == code
    assert len(capsys.readouterr().err.splitlines()) <= 4
