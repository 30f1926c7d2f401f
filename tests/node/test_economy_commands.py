"""`mathesis dataset|model|shares` against a running node: what is registered, bought, paid, and every way to err."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from chain.codec import decode
from chain.ledger.context import make_context
from chain.ledger.registry import GENESIS_ROYALTY_BP, compute_dataset_id, compute_model_id
from chain.primitives import Hash
from chain.transaction import RegisterDataset, Transaction
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.spec import DIGITS, compute_spec_hash
from node.addresses import format_address
from node.cli import main
from node.exit_codes import ExitCode
from node.models.state_file import ModelState, write_state
from node.rpc.client import AsyncRpcClient
from node.rpc.methods import GET_TRANSACTION, HashParams
from node.rpc.views import to_hex
from tests.support.economy import make_model
from tests.support.live_node import HOLDER, MINER, LiveNode, run_live_node
from tests.support.wallets import make_wallet

NOBODY = "http://127.0.0.1:9"
NOTHING = "0x" + 64 * "7"
ROOT = "0x" + 64 * "a"


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path / "node") as node:
        await node.mine(1)
        yield node


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a data directory whose default wallet key is the holder's, and that of a node which mines."""
    return make_wallet(tmp_path / "own", node_key=MINER, default=HOLDER)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return the file of a model that is the digits' first, with one weight changed."""
    weights = compute_initial_checkpoint(build_program(DIGITS)).weights
    changed = (weights[0] + np.eye(*weights[0].shape, dtype=np.int32), *weights[1:])
    path = tmp_path / "child.safetensors"
    write_state(path, ModelState(DIGITS, load_digits(DIGITS.heldout).root, bytes(32), 0, changed, ()))
    return path


class Shell:
    """Runs commands against one node and returns their JSON."""

    def __init__(self, live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.live = live
        self._directory = directory
        self._capsys = capsys

    async def run(self, *arguments: str, has_directory: bool = True) -> int:
        place = ["--rpc", self.live.url, "--json", *(["--dir", str(self._directory)] if has_directory else [])]
        return await asyncio.to_thread(main, [*arguments, *place])

    async def ask(self, *arguments: str, has_directory: bool = True) -> list[dict[str, object]]:
        """Return the lines of a command that succeeds."""
        self._capsys.readouterr()
        assert await self.run(*arguments, has_directory=has_directory) == ExitCode.OK, self._capsys.readouterr().err
        return [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]

    async def send(self, *arguments: str) -> dict[str, object]:
        """Run a command that waits, mine the block it waits for, and return what it prints."""
        self._capsys.readouterr()
        waiting = asyncio.create_task(self.run(*arguments, "--wait", "--timeout", "30"))
        pool = self.live.node.parts.mempool
        for _ in range(600):
            if len(pool) or waiting.done():
                break
            await asyncio.sleep(0.05)
        await self.live.mine(1)
        assert await waiting == ExitCode.OK, self._capsys.readouterr().err
        [line] = self._capsys.readouterr().out.splitlines()
        found: dict[str, object] = json.loads(line)
        assert found["height"] == self.live.node.parts.chain.head.height
        return found

    async def refuse(self, *arguments: str) -> str:
        """Return the one line with which a command fails."""
        self._capsys.readouterr()
        assert await self.run(*arguments) == ExitCode.FAILURE
        [line] = self._capsys.readouterr().err.splitlines()
        return line


@pytest.fixture
def shell(live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(live, directory, capsys)


async def test_a_data_set_and_a_model_are_registered_and_shown(shell: Shell, checkpoint: Path) -> None:
    context = make_context(shell.live.genesis)
    made = await shell.send("dataset", "register", ROOT, "--licence", "CC-BY-4.0", "--royalty-bp", "500")
    terms = RegisterDataset(Hash(bytes.fromhex(ROOT[2:])), "CC-BY-4.0", 500)
    assert made["dataset"] == to_hex(compute_dataset_id(context.chain_id, HOLDER.public_key, terms))
    [shown] = await shell.ask("dataset", "show", str(made["dataset"]), has_directory=False)
    assert (shown["royalty_bp"], shown["owner"]) == (500, format_address(HOLDER.public_key))
    listed = await shell.ask("dataset", "list", "--registered", has_directory=False)
    assert {line["dataset"] for line in listed} >= {made["dataset"]}
    assert len(listed) == 2

    options = ["--name", "child", "--licence", "Apache-2.0", "--price", "10", "--author-bp", "3000"]
    lineage = ["--parent", "network", "--dataset", str(made["dataset"])]
    model = await shell.send("model", "register", str(checkpoint), *options, *lineage)
    root = compute_checkpoint_root(compute_initial_checkpoint(build_program(DIGITS)))
    assert model["checkpoint_root"] != to_hex(root)
    [shown] = await shell.ask("model", "show", str(model["model"]), has_directory=False)
    expected = {"spec_hash": to_hex(compute_spec_hash(DIGITS)), "licence_price": str(10 * 10**9), "author_bp": 3000}
    expected |= {"parent": to_hex(context.task_id), "datasets": [made["dataset"]], "depth": 1, "name": "child"}
    assert {name: shown[name] for name in expected} == expected
    names = [line["model"] for line in await shell.ask("model", "list", has_directory=False)]
    assert sorted(map(str, names)) == sorted([str(model["model"]), to_hex(context.task_id)])


async def test_the_name_that_is_printed_is_the_ledgers(shell: Shell, checkpoint: Path) -> None:
    sent = await shell.send("model", "register", str(checkpoint), "--name", "m", "--licence", "MIT")
    async with AsyncRpcClient(shell.live.url) as rpc:
        found = await rpc.call(GET_TRANSACTION, HashParams(str(sent["transaction"])))
    body = decode(Transaction, found.record, 4096).body
    chain_id = make_context(shell.live.genesis).chain_id
    assert type(body.action) is type(make_model(1))
    assert sent["model"] == to_hex(compute_model_id(chain_id, body.sender, body.action))


async def test_a_licence_is_bought_and_a_model_paid(shell: Shell, checkpoint: Path) -> None:
    terms = ("--name", "m", "--licence", "MIT", "--price", "2")
    model = str((await shell.send("model", "register", str(checkpoint), *terms))["model"])
    [before] = await shell.ask("model", "licence", model)
    bought = await shell.send("model", "buy", model, "--fee", "0")
    [after] = await shell.ask("model", "licence", model)
    assert (before["bought_height"], before["price"]) == (None, None)
    assert (after["bought_height"], after["price"]) == (bought["height"], str(2 * 10**9))
    assert "licence-held" in await shell.refuse("model", "buy", model)
    await shell.send("model", "pay", "network", "3")
    [network] = await shell.ask("model", "show", "network", has_directory=False)
    assert (network["waiting_atoms"], network["royalty_bp"]) == (str(297 * 10**7), GENESIS_ROYALTY_BP)
    assert "licence-free" in await shell.refuse("model", "buy", "network")


async def test_what_the_ledger_refuses_ends_in_a_failure_that_names_the_rule(shell: Shell, checkpoint: Path) -> None:
    terms = ("--name", "m", "--licence", "MIT")
    digits = to_hex(shell.live.genesis.task.dataset_root)
    for arguments, rule in (
        (("dataset", "register", digits, "--licence", "MIT"), "content-known"),
        (("dataset", "register", ROOT, "--licence", "no licence!"), "licence"),
        (("model", "register", str(checkpoint), "--name", "", "--licence", "MIT"), "model-name"),
        (("model", "register", str(checkpoint), *terms, "--author-bp", "9901"), "income-parts"),
        (("model", "register", str(checkpoint), *terms, "--parent", NOTHING), "model-unknown"),
        (("model", "register", str(checkpoint), *terms, "--dataset", NOTHING), "dataset-unknown"),
        (("model", "pay", NOTHING, "1"), "model-unknown"),
        (("model", "pay", "network", "100000"), "balance"),
        (("model", "buy", NOTHING), "model list"),
        (("model", "show", NOTHING), "list command"),
        (("dataset", "show", NOTHING), "list command"),
        (("shares", "claim"), "income-none"),
        (("shares", "transfer", "default", "1"), "units"),
        (("shares", "claim", "--key", "nobody"), "nobody"),
    ):
        without_directory = arguments[1] == "show"
        if without_directory:
            assert await shell.run(*arguments, has_directory=False) == ExitCode.FAILURE
        else:
            assert rule in await shell.refuse(*arguments), arguments


async def test_shares_of_nobody_are_none(shell: Shell) -> None:
    [shown] = await shell.ask("shares", "show")
    assert (shown["units"], shown["percent"], shown["claimable_atoms"]) == ("0", "-", "0")
    assert shown["account"] == format_address(HOLDER.public_key)
    assert await shell.ask("shares", "list", has_directory=False) == []


async def test_waiting_in_vain_ends_in_a_failure_and_the_transaction_stays(shell: Shell) -> None:
    assert "still waits after 0.3 s" in await shell.refuse("model", "pay", "network", "1", "--wait", "--timeout", "0.3")
    assert len(shell.live.node.parts.mempool) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        "dataset register 0x12 --licence MIT", "dataset register " + ROOT, "dataset register nothing --licence MIT",
        "dataset register " + ROOT + " --licence MIT --royalty-bp 10001", "dataset show 0xzz",
        "model buy 0x12", "model pay network 0", "model pay network x", "model pay nothing 1", "model buy",
        "shares transfer default 0", "shares transfer default -1", "shares claim --model x", "shares show --model x",
        "model show nothing.safetensors", "model register nothing.safetensors --name m --licence MIT",
    ],
)  # fmt: skip
def test_wrong_arguments_are_usage_errors(arguments: str, directory: Path) -> None:
    place = [] if " show 0x" in arguments or "model show" in arguments else ["--dir", str(directory)]
    assert main([*arguments.split(), *place, "--rpc", NOBODY]) == ExitCode.USAGE


@pytest.mark.parametrize(
    "arguments",
    [
        "dataset register " + ROOT + " --licence MIT", "dataset list --registered", "dataset show " + ROOT,
        "model list", "model show network", "model buy " + NOTHING, "model pay network 1",
        "shares show", "shares list", "shares claim", "shares transfer default 1",
    ],
)  # fmt: skip
def test_nobody_at_the_address(
    arguments: str, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MATHESIS_DIR", str(directory))
    assert main([*arguments.split(), "--rpc", NOBODY]) == ExitCode.NODE_UNREACHABLE
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_any_key_a_command_says_where_it_looked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shares", "claim", "--dir", str(tmp_path), "--rpc", NOBODY]) == ExitCode.FAILURE
    assert "node-key.json" in capsys.readouterr().err
