"""`mathesis bond` against a running node: a bond's whole life, and every way to get it wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from chain.codec import decode
from chain.genesis import Parameters
from chain.ledger.keys import miner_key
from chain.ledger.records import Miner
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof, verify_exclusion, verify_inclusion
from node.addresses import format_address
from node.cli import main
from node.exit_codes import ExitCode
from node.rpc.client import AsyncRpcClient, RemoteError
from node.rpc.methods import GET_MINER, AccountParams
from node.rpc.state_views import MinerView
from node.submissions import KEPT
from tests.support.live_node import HOLDER, MINER, SECOND_MINER, LiveNode, make_genesis, run_live_node
from tests.support.wallets import make_wallet

PARAMETERS = Parameters(evidence_blocks=9)
NOBODY = "http://127.0.0.1:9"


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    genesis = replace(make_genesis((MINER, SECOND_MINER)), parameters=PARAMETERS)
    async with run_live_node(tmp_path / "node", genesis=genesis) as node:
        await node.mine(1)
        yield node


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a data directory whose own key is the second miner's, with a wallet key of someone who does not mine."""
    return make_wallet(tmp_path / "own", node_key=SECOND_MINER, holder=HOLDER)


async def run(live: LiveNode, directory: Path, *arguments: str) -> int:
    place = ["--dir", str(directory), "--rpc", live.url, "--json"]
    return await asyncio.to_thread(main, [*arguments, *place])


async def ask(live: LiveNode, key: SigningKey) -> MinerView:
    async with AsyncRpcClient(live.url) as rpc:
        return await rpc.call(GET_MINER, AccountParams(format_address(key.public_key)))


async def mine_until_free(live: LiveNode) -> None:
    for _ in range(5):
        await live.mine(1)
        if (await ask(live, SECOND_MINER)).bond == "0":
            return
    raise AssertionError("the bond is still held")


def get_state_root(live: LiveNode) -> Hash:
    return live.node.parts.chain.head.header.foliage.state_root


async def test_a_bond_is_withdrawn_after_its_notice_and_posted_again(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(live, directory, "bond", "show") == ExitCode.OK
    shown = json.loads(capsys.readouterr().out)
    assert (shown["coins"], shown["release_height"], shown["is_miner"]) == ("50", None, True)

    assert await run(live, directory, "bond", "withdraw") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["step"] == "notice"
    await live.mine(1)
    release_height = 2 + PARAMETERS.evidence_blocks + 1
    assert (await ask(live, SECOND_MINER)).release_height == release_height
    assert await run(live, directory, "bond", "withdraw") == ExitCode.FAILURE
    told = capsys.readouterr().err
    assert "bond-release" in told
    assert KEPT in told

    # What came too early waits at the node, and is taken by the first blocks that may.
    await live.mine(release_height - 3)
    assert (await ask(live, SECOND_MINER)).bond == "50000000000"
    await mine_until_free(live)
    assert await run(live, directory, "bond", "withdraw") == ExitCode.FAILURE
    assert "bond-none" in capsys.readouterr().err
    assert await run(live, directory, "bond", "post", "49.9") == ExitCode.FAILURE
    assert "bond-amount" in capsys.readouterr().err
    assert await run(live, directory, "bond", "post", "50") == ExitCode.OK
    await live.mine(1)
    again = await ask(live, SECOND_MINER)
    assert (again.bond, again.registered_height, again.release_height) == ("50000000000", again.height, None)


async def test_what_the_ledger_refuses_ends_in_a_failure_that_names_the_rule(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = (
        (["post", "50"], "bond-held"),
        (["post", "51", "--key", "holder"], "bond-amount"),
        (["post", "5000", "--key", "holder"], "balance"),
        (["withdraw", "--key", "holder"], "bond-miner"),
        (["withdraw", "--fee", "951"], "balance"),
        (["show", "mth1x"], "mth1x"),
        (["show", "nobody"], "nobody"),
    )
    for arguments, found in cases:
        assert await run(live, directory, "bond", *arguments) == ExitCode.FAILURE, arguments
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        is_kept = found in {"balance", "bond-held", "bond-amount", "bond-miner"}
        assert (KEPT in lines[0]) == is_kept, lines
        assert found in lines[0], arguments
    assert await run(live, directory, "bond", "show", "holder") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["is_miner"] is False


async def test_what_a_node_says_of_a_miner_is_proven(live: LiveNode) -> None:
    found, absent, root = await ask(live, MINER), await ask(live, HOLDER), get_state_root(live)
    assert found.value is not None
    assert absent.value is None
    name = miner_key(MINER.public_key).name
    assert found.key == f"0x{name.hex()}"
    verify_inclusion(root, name, found.value, decode(StateProof, found.proof, STATE_PROOF_BYTES_MAX))
    assert decode(Miner, found.value, 64) == Miner(0, 0, PARAMETERS.bond, 0)
    proof = decode(StateProof, absent.proof, STATE_PROOF_BYTES_MAX)
    verify_exclusion(root, miner_key(HOLDER.public_key).name, proof)
    assert (absent.bond, absent.release_height) == ("0", None)
    async with AsyncRpcClient(live.url) as rpc:
        with pytest.raises(RemoteError, match="address"):
            await rpc.call(GET_MINER, AccountParams("mth1x"))


@pytest.mark.parametrize("arguments", [["show"], ["post", "50"], ["withdraw"]], ids=" ".join)
def test_nobody_at_the_address(arguments: list[str], directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bond", *arguments, "--dir", str(directory), "--rpc", NOBODY])
    assert code == ExitCode.NODE_UNREACHABLE
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("arguments", ["post", "post many", "post 0", "post 50 --fee -1"])
def test_amounts_that_are_none_are_usage_errors(arguments: str, directory: Path) -> None:
    assert main(["bond", *arguments.split(), "--dir", str(directory), "--rpc", NOBODY]) == ExitCode.USAGE


@pytest.mark.parametrize("arguments", [["show"], ["post", "50"], ["withdraw"]], ids=" ".join)
def test_a_directory_without_a_key(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bond", *arguments, "--dir", str(tmp_path), "--rpc", NOBODY]) == ExitCode.FAILURE
    assert "node-key.json" in capsys.readouterr().err
