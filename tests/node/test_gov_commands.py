"""`mathesis gov` against a running node: a vote's whole life, and every way to get it wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from node.cli import main
from node.exit_codes import ExitCode
from tests.node.test_bond_commands import NOBODY, directory
from tests.support.live_node import MINER, SECOND_MINER, LiveNode, make_genesis, run_live_node

__all__ = ["directory"]


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    genesis = make_genesis((MINER, SECOND_MINER))
    quick = replace(genesis.parameters, voting_blocks=3, enactment_blocks=1)
    async with run_live_node(tmp_path / "node", genesis=replace(genesis, parameters=quick)) as node:
        await node.mine(1)
        yield node


async def run(live: LiveNode, directory: Path, *arguments: str, is_json: bool = True) -> int:
    needs_key = arguments[0] not in ("list", "parameters")
    place = ["--rpc", live.url, *(["--dir", str(directory)] if needs_key else []), *(["--json"] if is_json else [])]
    return await asyncio.to_thread(main, ["gov", *arguments, *place])


async def ask(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str], *arguments: str
) -> list[dict[str, object]]:
    assert await run(live, directory, *arguments) == ExitCode.OK, capsys.readouterr().err
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def test_a_vote_from_its_stake_to_its_effect(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await ask(live, directory, capsys, "lock", "700", "--key", "holder")
    await live.mine(1)
    sent = await ask(live, directory, capsys, "propose", "Raise the deposit", "--set", "deposit", "7.5")
    name = str(sent[0]["proposal"])
    await live.mine(1)
    voted = await ask(live, directory, capsys, "vote", name[:8], "yes", "--key", "holder")
    assert voted[0]["proposal"] == name
    await live.mine(1)
    (shown,) = await ask(live, directory, capsys, "show", name, "--account", "holder")
    assert (shown["status"], shown["yes"], shown["choice"], shown["votes"]) == ("open", "700", "yes", "700")
    assert shown["change"] == "set deposit to 7.5 coins"
    assert await run(live, directory, "list", is_json=False) == ExitCode.OK
    assert name[:12] in capsys.readouterr().out
    await live.mine(6)
    listed = await ask(live, directory, capsys, "list")
    assert [(each["proposal"], each["status"]) for each in listed] == [(name, "enacted")]
    values = {each["name"]: each["value"] for each in await ask(live, directory, capsys, "parameters")}
    assert values["deposit"] == str(7_500_000_000)
    assert await run(live, directory, "parameters", is_json=False) == ExitCode.OK
    assert "7.5 coins" in capsys.readouterr().out

    assert await run(live, directory, "vote", name, "no", "--key", "holder") == ExitCode.FAILURE
    assert "proposal-closed" in capsys.readouterr().err
    assert (await ask(live, directory, capsys, "unlock", "--key", "holder"))[0]["step"] == "notice"
    await live.mine(1)
    (stake,) = await ask(live, directory, capsys, "stake", "holder")
    assert (stake["coins"], stake["leaving"], stake["release_height"]) == ("0", "700", 11 + 3 + 1 + 9)
    assert await run(live, directory, "unlock", "--key", "holder") == ExitCode.FAILURE
    assert "stake-release" in capsys.readouterr().err
    await live.mine(14)
    (stake,) = await ask(live, directory, capsys, "stake", "holder")
    assert stake["leaving"] == "0", "what came too early waited at the node, and was taken by the first block that may"


async def test_what_the_ledger_refuses_ends_in_a_failure_that_names_the_rule(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = "ab" * 32
    cases = (
        (["lock", "5000"], "balance"),
        (["unlock", "5"], "stake-amount"),
        (["unlock"], "amount"),
        (["stake", "nobody"], "nobody"),
        (["vote", unknown, "yes"], "proposal-unknown"),
        (["show", unknown], "found no proposal"),
        (["propose", "t", "--set", "deposit", "100"], "change-step"),
        (["propose", "t", "--set", "deposit", "100000"], "change-bounds"),
        (["propose", "t", "--set", "treasury_bp", "5000"], "change-bounds"),
        (["propose", "t", "--pay", "holder", "100"], "spend-treasury"),
        (["propose", "t", "--subsidise", f"0x{unknown}", "2001"], "share-bounds"),
        (["propose", "t", "--subsidise", f"0x{unknown}", "100"], "share-task"),
        (["propose", "", "--set", "deposit", "6"], "proposal-title"),
        (["propose", "t", "--pay", "mth1x", "1"], "mth1x"),
    )
    for arguments, found in cases:
        assert await run(live, directory, *arguments) == ExitCode.FAILURE, arguments
        lines = capsys.readouterr().err.splitlines()
        assert found in lines[0], (arguments, lines)
        assert len(lines) == 1, lines
    assert await run(live, directory, "list", is_json=False) == ExitCode.OK
    assert capsys.readouterr().out == "no proposals\n"
    assert await run(live, directory, "vote", "ab", "yes") == ExitCode.USAGE
    assert "found 0 proposals" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["lock"],
        ["lock", "many"],
        ["lock", "0"],
        ["lock", "5", "--fee", "-1"],
        ["vote", "xyz", "yes"],
        ["vote", "ab" * 33, "yes"],
        ["vote", "ab" * 32, "perhaps"],
        ["propose", "t"],
        ["propose", "t", "--set", "deposit", "6", "--pay", "holder", "1"],
        ["propose", "t", "--pay", "holder", "1", "--subsidise", f"0x{'ab' * 32}", "1"],
        ["propose", "t", "--subsidise", "ab", "1"],
        ["propose", "t", "--set", "interval_ms", "6"],
        ["propose", "t", "--set", "treasury_bp", "6.5"],
        ["propose", "t", "--set", "deposit"],
        ["propose", "t", "--pay", "holder", "0"],
    ],
    ids=" ".join,
)
def test_what_is_no_command_is_a_usage_error(arguments: list[str], directory: Path) -> None:
    assert main(["gov", *arguments, "--dir", str(directory), "--rpc", NOBODY]) == ExitCode.USAGE


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["parameters"], ["stake"], ["lock", "1"], ["unlock"], ["vote", "ab" * 32, "no"], ["show", "ab"]],
    ids=" ".join,
)
def test_nobody_at_the_address(arguments: list[str], directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = [] if arguments[0] in ("list", "parameters") else ["--dir", str(directory)]
    assert main(["gov", *arguments, "--rpc", NOBODY, *place]) == ExitCode.NODE_UNREACHABLE
    assert len(capsys.readouterr().err.splitlines()) == 1
