"""`mathesis inference` against a running node: a paid answer from request to opening, told with proofs."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chain.codec import decode, encode
from chain.inference import RequestInference
from chain.ledger.context import make_context
from chain.ledger.inference_records import Inference
from chain.primitives import Hash
from chain.state.proof import STATE_PROOF_BYTES_MAX, StateProof, verify_exclusion, verify_inclusion
from chain.transaction import Transaction, TransactionBody, compute_signing_hash
from ml.checkpoint import compute_checkpoint_root
from ml.spec import compute_spec_hash
from node.addresses import format_address
from node.cli import main
from node.exit_codes import ExitCode
from node.inference.payments import Sender
from node.models import write_state
from node.rpc.client import AsyncRpcClient
from node.rpc.economy_views import EntryView
from node.rpc.inference_methods import GET_INFERENCE, InferenceParams
from node.rpc.methods import SEND_TRANSACTION, SendParams
from tests.node.test_models import make_state
from tests.support.economy import make_model
from tests.support.live_node import HOLDER, MINER, LiveNode, run_live_node
from tests.support.wallets import make_wallet

STATE = make_state("decoder")
ROOT = compute_checkpoint_root(STATE.checkpoint)
ABSENT = "0x" + "12" * 32


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path / "node") as node:
        await node.mine(1)
        terms = replace(make_model(1), spec_hash=compute_spec_hash(STATE.spec), checkpoint_root=ROOT)
        body = TransactionBody(HOLDER.public_key, 0, 10**6, terms)
        signature = HOLDER.sign(compute_signing_hash(make_context(node.genesis).chain_id, body))
        async with AsyncRpcClient(node.url) as rpc:
            await rpc.call(SEND_TRANSACTION, SendParams(encode(Transaction(body, signature))))
        await node.mine(1)
        yield node


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a data directory with the keys of whoever asks and whoever answers, and the model's checkpoint."""
    root = make_wallet(tmp_path / "own", holder=HOLDER, provider=MINER)
    write_state(root / "tiny.safetensors", STATE)
    return root


def verify(live: LiveNode, entry: EntryView) -> Inference | None:
    """Return what an entry proves under the state root of the head's header."""
    root, key = live.node.parts.chain.head.header.foliage.state_root, bytes.fromhex(entry.key[2:])
    proof = decode(StateProof, entry.proof, STATE_PROOF_BYTES_MAX)
    if entry.value is None:
        verify_exclusion(root, key, proof)
        return None
    verify_inclusion(root, key, entry.value, proof)
    return decode(Inference, entry.value, 4096)


async def test_an_answer_is_asked_for_given_challenged_and_opened(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(key: str, *arguments: str) -> Any:
        place = ["--rpc", live.url, "--json"] + (["--dir", str(directory), "--key", key] if key else [])
        assert await asyncio.to_thread(main, ["inference", *arguments, *place]) == ExitCode.OK
        await live.mine(1)
        return json.loads(capsys.readouterr().out)

    async def show(name: str) -> Any:
        async with AsyncRpcClient(live.url) as rpc:
            found = await rpc.call(GET_INFERENCE, InferenceParams(f"0x{name}"))
        record = verify(live, found.entry)
        assert (record is None) == (found.status == "absent")
        return found

    provider, receipt, checkpoint = (
        format_address(MINER.public_key),
        str(directory / "receipt.json"),
        str(directory / "tiny.safetensors"),
    )
    asked = ["request", ROOT.hex(), "--provider", provider, "--prompt", "to be", "--bytes", "5", "--price", "0.01"]
    name = (await run("holder", *asked))["inference"]
    assert (await show(name)).status == "asked"
    sample = ["model", "sample", checkpoint, "--prompt", "to be", "--bytes", "5", "--verify", "--receipt", receipt]
    assert await asyncio.to_thread(main, sample) == ExitCode.OK
    capsys.readouterr()
    other = (await run("holder", *asked, "--seed", "1"))["inference"]
    refused = ["inference", "answer", other, receipt, "--rpc", live.url, "--dir", str(directory), "--key", "provider"]
    assert await asyncio.to_thread(main, refused) == ExitCode.USAGE
    assert "found an answer of the request" in capsys.readouterr().err, "its deposit would be anybody's"
    await run("provider", "answer", name, receipt)
    found = await show(name)
    assert (found.status, found.tokens, found.escrow) == ("answered", 5, str(5 * 10**7))
    for place in (["--pass", "2", "--op", "3"], ["--pass", "9", "--op", "3"]):
        await run("holder", "challenge", name, *place)
        assert (await show(name)).status == "challenged"
        await run("provider", "open", name, receipt, checkpoint)
        assert (await run("", "show", name))["status"] == "answered"
    # Too early: refused by the node, told in one line.
    arguments = ["inference", "close", name, "--rpc", live.url, "--dir", str(directory), "--key", "holder"]
    assert await asyncio.to_thread(main, arguments) == ExitCode.FAILURE
    assert "inference-early" in capsys.readouterr().err
    assert (await run("", "show", ABSENT))["status"] == "absent"


async def test_a_request_without_an_end_can_be_read_and_so_be_opened(
    live: LiveNode, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A requester chooses the deadline; a provider whose commands cannot read it loses its deposit to a challenge."""
    terms = RequestInference(ROOT, Hash(bytes(32)), MINER.public_key, 5_000, 5, 10**7, 2**64 - 1)
    name, _ = await asyncio.to_thread(Sender(live.url, HOLDER, 1_000).request, terms)
    await live.mine(1)
    assert await asyncio.to_thread(main, ["inference", "show", name.hex(), "--rpc", live.url, "--json"]) == ExitCode.OK
    shown = json.loads(capsys.readouterr().out)
    assert (shown["status"], shown["deadline"]) == ("asked", str(2**64 - 1))


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "12"],
        ["request", "zz", "--provider", "mth1", "--prompt", "a", "--price", "1"],
        ["challenge", ABSENT, "--pass", "5000", "--op", "1"],
        ["close", "nothing"],
    ],
)
def test_arguments_that_name_nothing_are_refused(arguments: list[str], directory: Path) -> None:
    place = ["--rpc", "http://127.0.0.1:9"]
    place += [] if arguments[0] == "show" else ["--dir", str(directory), "--key", "holder"]
    assert main(["inference", *arguments, *place]) == ExitCode.USAGE
