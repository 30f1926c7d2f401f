"""A text of more than a mebibyte on a real node: registered in parts, trained on, and what others have of it."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chain.errors import InvalidTransaction, MissingData
from chain.ledger.accounts import get_account
from chain.ledger.dataset_parts import PART_PRICE
from chain.ledger.keys import contribution_key, dataset_parts_key, task_key
from chain.ledger.records import ContributionKey
from chain.ledger.transition import ContributionStatus
from chain.primitives import ZERO_HASH, Hash
from chain.signature import SigningKey
from chain.transaction import AddDatasetPart, Transaction, compute_sidecar_hash
from ml.backends import get_backend
from ml.dataset import compute_dataset_root, encode_text
from ml.lottery import get_lottery
from ml.spec import DIGITS, Decoder
from node import dataset_parts
from node.cli.main import main
from node.database.exporting import get_needed_blobs
from node.dataset_parts import make_part
from node.exit_codes import ExitCode
from node.learning import load_task
from node.mempool import DEFAULT_BOUNDS, AddResult
from node.miner.link import NodeLink
from node.miner.loop import MinerLoop
from node.miner.tools import Tools
from node.options import Endpoint
from node.rpc.client import AsyncRpcClient, RpcClient
from node.rpc.methods import GET_ACCOUNT, GET_WORK
from node.rpc.registry import Params
from node.rpc.views import from_hex, to_hex
from node.task_terms import ModelTerms, Offer, make_post_task
from node.wallet import sign_action
from tests.support.live_node import HOLDER, MINER, SECOND_MINER, LiveNode, make_genesis, run_live_node
from tests.support.posting import BUDGET, post
from tests.support.wallets import make_wallet

WORDS = b"to be or not that is the question whether tis nobler in mind suffer slings and arrows of fortune".split()
TEXT = b" ".join(random.Random(59).choices(WORDS, k=250_000))[:1_150_000]
BLOB = encode_text(TEXT)
COUNT = 3
READER = replace(
    DIGITS, model=Decoder(128, 16, 16, 1, 1, 32, 0, 0), heldout=1, segment_steps=8, warmup_steps=1, decay_steps=2
)


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path / "node", genesis=make_genesis((MINER, SECOND_MINER))) as node:
        # What is compiled with the first block keeps the loop, and no command waits for it.
        await node.mine(1)
        yield node


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "plays.txt"
    path.write_bytes(TEXT)
    return path


class Shell:
    """Runs commands with the holder's key against one node, which mines meanwhile."""

    def __init__(self, live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._live = live
        self._place = ["--rpc", live.url, "--json"]
        self._wallet = ["--dir", str(directory)]
        self._capsys = capsys

    async def run(self, *arguments: str, blocks: int = 40) -> tuple[int, str]:
        """Return the exit code and what was printed; up to `blocks` blocks are mined for what waits."""
        self._capsys.readouterr()
        place = [*self._place, *(self._wallet if arguments[1] != "show" else [])]
        running = asyncio.create_task(asyncio.to_thread(main, [*arguments, *place]))
        while not running.done():
            if blocks and len(self._live.node.parts.mempool):
                await self._live.mine(1)
                blocks -= 1
            await asyncio.sleep(0.02)
        out, err = self._capsys.readouterr()
        return await running, out if await running == ExitCode.OK else err


@pytest.fixture
def shell(live: LiveNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(live, make_wallet(tmp_path / "own", default=HOLDER), capsys)


def list_parts(live: LiveNode) -> list[int]:
    """Return the numbers of all parts that blocks hold, in their order."""
    chain = live.node.parts.chain
    entries = [chain.head.get_ancestor(height) for height in range(1, chain.head.height + 1)]
    blocks = [chain.get_existing_block(entry.hash) for entry in entries]
    actions = [transaction.body.action for block in blocks for transaction in block.transactions]
    return [action.index for action in actions if isinstance(action, AddDatasetPart)]


async def register(shell: Shell, text: Path) -> Hash:
    code, printed = await shell.run("dataset", "register", str(text), "--licence", "CC0-1.0")
    assert code == ExitCode.OK, printed
    return from_hex(json.loads(printed)["dataset"])


async def post_reader(live: LiveNode, dataset: Hash, seed: int = 5) -> Hash:
    """Post a task of reading the text, its first part beside it."""
    offer = Offer(BUDGET, 1 << 44, live.node.parts.chain.head.height + 90)
    terms, part = make_post_task(
        replace(READER, init_seed=seed), BLOB, dataset, ModelTerms(f"reader {seed}", "Apache-2.0"), offer
    )
    return await post(live, HOLDER, terms, part)


async def follow(live: LiveNode, loop: MinerLoop) -> None:
    """Do what the head asks of a miner, and mine the next block."""
    async with AsyncRpcClient(live.url, live.token) as client:
        work = await client.call(GET_WORK, Params())
    await asyncio.to_thread(loop._prepare, work)
    await live.mine(1)


async def test_a_text_is_registered_in_parts_and_what_was_interrupted_goes_on(
    live: LiveNode, shell: Shell, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = live.node.parts.chain
    monkeypatch.setattr(dataset_parts, "BATCH", 1)
    before = get_account(chain.view(), HOLDER.public_key).balance
    options = ["dataset", "register", str(text), "--licence", "CC0-1.0", "--fee", "0.001"]
    # The block of the registration and that of the first part.
    code, printed = await shell.run(*options, "--wait", "--timeout", "3", blocks=2)
    assert (code, "1 of 3 parts have come" in printed) == (ExitCode.FAILURE, True), printed
    assert list_parts(live) == [0]
    code, printed = await shell.run(*options)
    assert code == ExitCode.OK, printed
    shown = json.loads(printed)
    assert (shown["parts"], shown["size_bytes"], shown["content_root"]) == (
        COUNT,
        len(BLOB),
        to_hex(compute_dataset_root(BLOB)),
    )
    assert list_parts(live) == [0, 1, 2], "none was sent twice"
    spent = before - get_account(chain.view(), HOLDER.public_key).balance
    assert spent == COUNT * PART_PRICE + (COUNT + 1) * 10**6
    code, printed = await shell.run("dataset", "show", shown["dataset"])
    found = json.loads(printed)
    assert (found["parts"], found["parts_total"], found["size_bytes"], found["resembles"]) == (3, 3, len(BLOB), [])
    code, printed = await shell.run(*options)
    assert code == ExitCode.OK, "what is complete says so again"
    assert json.loads(printed) | {"height": 0} == shown | {"height": 0}


async def test_a_block_between_two_questions_has_no_part_sent_twice(
    live: LiveNode, shell: Shell, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second copy would be refused, and end the command: what has come is asked after what still waits."""
    loop, call = asyncio.get_running_loop(), RpcClient.call

    def call_behind_a_block(client: RpcClient, method: Any, params: Any) -> Any:
        waiting = [each.transaction.body.action for each in live.node.parts.mempool.iter_candidates()]
        if method is GET_ACCOUNT and any(isinstance(action, AddDatasetPart) for action in waiting):
            asyncio.run_coroutine_threadsafe(live.mine(1), loop).result()
        return call(client, method, params)

    monkeypatch.setattr(RpcClient, "call", call_behind_a_block)
    code, printed = await shell.run("dataset", "register", str(text), "--licence", "CC0-1.0", blocks=1)
    assert code == ExitCode.OK, printed
    assert list_parts(live) == [0, 1, 2]


async def test_whoever_has_a_content_sends_it_for_its_owner_and_that_of_the_network_too(
    live: LiveNode, shell: Shell, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATHESIS_DATASETS", str(tmp_path / "cache"))
    bringer = await register_root(live, shell)
    code, printed = await shell.run("dataset", "send", to_hex(bringer.dataset))
    assert code != ExitCode.OK
    assert "dataset fetch" in printed
    assert await asyncio.to_thread(main, ["dataset", "fetch", str(text), "--json"]) == ExitCode.OK
    for name, count in ((to_hex(bringer.dataset), COUNT), ("network", 1)):
        code, printed = await shell.run("dataset", "send", name)
        assert code == ExitCode.OK, printed
        assert json.loads(printed)["parts"] == count
    assert list_parts(live) == [0, 1, 2, 0]
    code, printed = await shell.run("dataset", "send", to_hex(ZERO_HASH))
    assert (code, "is registered" in printed) == (ExitCode.FAILURE, True), printed


async def test_a_task_trains_on_the_text_and_peers_and_exports_have_all_of_it(
    live: LiveNode, shell: Shell, text: Path, tmp_path: Path
) -> None:
    dataset = await register(shell, text)
    chain, rounds = live.node.parts.chain, live.genesis.parameters.round_blocks
    name = await post_reader(live, dataset)
    await live.mine(rounds - chain.head.height % rounds)
    number = chain.head.height // rounds
    tools = Tools(live.genesis, load_task(live.genesis.task), get_backend("cpu"), get_lottery("cpu"))
    loop = MinerLoop(NodeLink(live.url, lambda: live.token), tools)
    for _ in range(rounds + 1):
        await follow(live, loop)
    key = contribution_key(name, number, ContributionKey(MINER.public_key, 0))
    assert chain.view().get_existing(key).status is ContributionStatus.SETTLED
    state = chain.view().get_existing(task_key(name))
    assert state.heldout_total > 0
    assert state.settled_contributions == 1
    head, port = chain.head.hash, live.node.validator.network._port
    peers = (Endpoint("127.0.0.1", port),)
    async with run_live_node(tmp_path / "two", SECOND_MINER, live.genesis, peers=peers) as other:
        async with asyncio.timeout(60):
            while other.node.parts.chain.head.hash != head:
                await asyncio.sleep(0.05)
        parts = other.node.parts.chain.view().get_existing(dataset_parts_key(dataset)).parts
        assert all(other.node.parts.chain.has_sidecar(part.sidecar_hash) for part in parts)
    await check_exports(tmp_path, head)
    # Whoever starts from the state takes the next task on the text.
    async with run_live_node(tmp_path / "imported-state") as late:
        await post_reader(late, dataset, seed=6)


async def check_exports(tmp_path: Path, head: Hash) -> None:
    """Hold the directory of the node that has fetched all against its rules, and take it along in both ways."""
    for kind in ("chain", "state"):
        out, into = str(tmp_path / f"export-{kind}"), str(tmp_path / f"imported-{kind}")
        trusted = ["--trust", to_hex(head)] if kind == "state" else []
        for arguments in (
            ["verify", "--dir", str(tmp_path / "two")],
            ["export", out, "--dir", str(tmp_path / "two"), *(["--state"] if kind == "state" else [])],
            ["import", out, "--dir", into, *trusted],
            ["verify", "--dir", into],
        ):
            assert await asyncio.to_thread(main, ["db", *arguments]) == ExitCode.OK, arguments


async def test_a_state_takes_along_every_part_that_has_come_whether_a_task_needs_it_or_not(
    live: LiveNode, shell: Shell, text: Path
) -> None:
    dataset, chain = await register(shell, text), live.node.parts.chain
    needed = get_needed_blobs(chain.ledger_context, chain.view())
    assert {compute_sidecar_hash(make_part(BLOB, index)) for index in range(COUNT)} <= set(needed)
    assert chain.view().get_existing(dataset_parts_key(dataset)).size_bytes == len(BLOB)


class Bringer:
    """Offers parts to the gate of a node."""

    def __init__(self, live: LiveNode, dataset: Hash, key: SigningKey = HOLDER) -> None:
        self._parts = live.node.parts
        self._key = key
        self.dataset = dataset

    async def offer(self, number: int, ahead: int = 0, **changed: object) -> AddResult:
        """Offer a part with a nonce so far ahead of the next, its terms changed."""
        part = make_part(BLOB, number)
        terms = AddDatasetPart(self.dataset, len(BLOB), number, compute_sidecar_hash(part))
        return await self._parts.gate.admit(self.sign(replace(terms, **changed), ahead), part)  # type: ignore[arg-type]

    def sign(self, terms: AddDatasetPart, ahead: int = 0) -> Transaction:
        nonce = self._parts.gate.compute_next_nonce(self._key.public_key) + ahead
        return sign_action(self._parts.chain.ledger_context.chain_id, self._key, nonce, 0, terms)


async def register_root(live: LiveNode, shell: Shell) -> Bringer:
    root = to_hex(compute_dataset_root(BLOB))
    code, printed = await shell.run("dataset", "register", root, "--licence", "CC0-1.0", "--wait")
    assert code == ExitCode.OK, printed
    return Bringer(live, from_hex(json.loads(printed)["dataset"]))


async def test_the_gate_keeps_nothing_on_disk_but_parts_that_are_right(live: LiveNode, shell: Shell) -> None:
    bringer, chain = await register_root(live, shell), live.node.parts.chain
    last = compute_sidecar_hash(make_part(BLOB, 2))
    for ahead in (0, 3):
        with pytest.raises(InvalidTransaction, match="part-bytes"):
            await bringer.offer(2, ahead, index=1)
        with pytest.raises(InvalidTransaction, match="dataset-unknown"):
            await bringer.offer(2, ahead, dataset=ZERO_HASH)
        with pytest.raises(InvalidTransaction, match="part-root"):
            await bringer.offer(1, ahead, index=0)
    with pytest.raises(InvalidTransaction, match="nonce"):
        await bringer.offer(2, DEFAULT_BOUNDS.account_transactions_max, index=1)
    assert not any(chain.has_sidecar(compute_sidecar_hash(make_part(BLOB, number))) for number in range(COUNT))
    assert await bringer.offer(2, 1) is AddResult.ADDED
    assert chain.has_sidecar(last)
    absent = AddDatasetPart(bringer.dataset, len(BLOB), 0, ZERO_HASH)
    with pytest.raises(MissingData):
        await live.node.parts.gate.admit(bringer.sign(absent))
    # What nobody could use is not asked for.
    with pytest.raises(InvalidTransaction, match="dataset-unknown"):
        await live.node.parts.gate.admit(bringer.sign(replace(absent, dataset=ZERO_HASH)))


async def test_a_part_that_another_has_brought_holds_up_nobody(
    live: LiveNode, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    bringer, pool = await register_root(live, shell), live.node.parts.mempool
    # Whoever makes a block drops what does not fit it; here the pool is that of any other node.
    monkeypatch.setattr(pool, "drop", lambda _: None)
    for key in (HOLDER, SECOND_MINER):
        assert await Bringer(live, bringer.dataset, key).offer(1) is AddResult.ADDED
    await live.mine(1)
    assert list_parts(live) == [1]
    assert len(pool) == 0
    with pytest.raises(InvalidTransaction, match="part-known"):
        await bringer.offer(1)
    for key in (HOLDER, SECOND_MINER):
        assert live.node.parts.gate.compute_next_nonce(key.public_key) == live.node.parts.gate.get_account_nonce(
            key.public_key
        )
