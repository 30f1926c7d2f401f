"""`mathesis inference pursue` against a running node: a lie is followed to where it cannot be opened."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from chain.errors import InvalidProof
from chain.inference import AnswerInference, ChallengeAnswer, RequestInference
from chain.ledger.inference import CHALLENGE_PARTS, OPEN_BLOCKS
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import Action
from ml.answer import compute_answer_hash, compute_request_hash
from ml.answer_checks import AnswerOpening
from ml.answering import Traced, open_answer
from ml.openings import Place
from ml.spec import encode_spec
from node.addresses import format_address
from node.cli import main
from node.exit_codes import ExitCode
from node.inference.claims import make_shown
from node.inference.payments import Sender, read_place
from node.inference.pursuit import Pursuit, _get_asked
from node.inference.receipt import NO_BEACON, Receipt, encode_receipt
from node.inference.serving import ReceiptMaker
from node.keystore import write_key
from node.models import write_state
from node.rpc.client import AsyncRpcClient
from node.rpc.inference_methods import GET_INFERENCE, InferenceParams, InferenceView
from node.rpc.methods import GET_ACCOUNT, AccountParams
from tests.node.test_models import make_state
from tests.support.answers import TEXT, get_checkpoint_roots, make_answer, make_server
from tests.support.liars import make_liar, run_first_pass
from tests.support.live_node import HOLDER, MINER, LiveNode, run_live_node
from tests.support.models import TINY_SPECS
from tests.support.paid_answers import make_terms

NAME = "decoder"
FEE = 10**6
Open = Callable[[Place], AnswerOpening]
"""Opens a place, or raises InvalidProof."""


@dataclass(slots=True)
class Case:
    """A node on which a provider has answered, and the pursuer's directory."""

    live: LiveNode
    directory: Path
    inference: Hash
    traced: Traced

    async def send(self, key: SigningKey, action: Action) -> None:
        """Send an action and mine it."""
        await asyncio.to_thread(Sender(self.live.url, key, FEE).send, action)  # type: ignore[arg-type]
        await self.live.mine(1)

    async def get(self) -> InferenceView:
        async with AsyncRpcClient(self.live.url) as rpc:
            return await rpc.call(GET_INFERENCE, InferenceParams(f"0x{self.inference.hex()}"))

    async def get_coins(self, key: SigningKey) -> int:
        async with AsyncRpcClient(self.live.url) as rpc:
            return int((await rpc.call(GET_ACCOUNT, AccountParams(format_address(key.public_key)))).balance)

    async def pursue(self, provider_opens: Open, *arguments: str) -> int:
        """Run the command while the provider opens what it can and blocks are mined; return the exit code."""
        place = ["--rpc", self.live.url, "--dir", str(self.directory), "--key", "holder", "--json"]
        checkpoint = str(self.directory / "tiny.safetensors")
        command = ["inference", "pursue", self.inference.hex(), checkpoint, *arguments, *place]
        running = asyncio.create_task(asyncio.to_thread(main, command))
        silent = 0
        while not running.done():
            found = await self.get()
            if found.challenge is None or silent:
                silent += silent > 0
                assert silent < 20 * OPEN_BLOCKS
                await self.live.mine(1)
            else:
                try:
                    opening = provider_opens(read_place(found.challenge.place))
                except InvalidProof:
                    silent = 1
                    continue
                roots = get_checkpoint_roots(NAME)
                shown = make_shown(self.inference, encode_spec(TINY_SPECS[NAME]), self.traced.answer, roots, opening)
                await self.send(MINER, shown)
            await asyncio.sleep(0.1)
        return int(await running)


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path / "node") as node:
        await node.mine(1)
        yield node


async def make_case(live: LiveNode, directory: Path, traced: Traced) -> Case:
    """Return a case: the model is registered, its answer asked for and given."""
    (directory / "wallet").mkdir(parents=True)
    write_key(directory / "wallet" / "holder.json", HOLDER, "", is_development=True)
    write_state(directory / "tiny.safetensors", make_state(NAME))
    receipt = Receipt(TINY_SPECS[NAME], traced.answer, get_checkpoint_roots(NAME), NO_BEACON, ())
    (directory / "receipt.json").write_bytes(encode_receipt(receipt))
    case = Case(live, directory, Hash(bytes(32)), traced)
    await case.send(HOLDER, make_terms())
    root = make_server(NAME).checkpoint_root
    terms = RequestInference(root, compute_request_hash(TEXT), MINER.public_key, 5_000, 6, 10**7, 1_000)
    case.inference, _ = await asyncio.to_thread(Sender(live.url, HOLDER, FEE).request, terms)
    await live.mine(1)
    answer = traced.answer
    hashes = compute_answer_hash(answer), answer.trace_root
    await case.send(MINER, AnswerInference(case.inference, *hashes, len(answer.output)))
    assert (await case.get()).status == "answered"
    return case


async def test_a_lie_is_pursued_until_it_cannot_be_opened(
    live: LiveNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    op = run_first_pass(NAME)[0].program.ops[len(run_first_pass(NAME)[0].program.ops) // 2]
    liar = make_liar(NAME, op, 0)
    assert liar is not None
    case = await make_case(live, tmp_path / "own", liar.traced)
    before, deposit = await case.get_coins(HOLDER), int((await case.get()).deposit)
    receipt = str(case.directory / "receipt.json")
    assert await case.pursue(liar.open, "--receipt", receipt) == ExitCode.VERIFICATION_REFUSED
    told = capsys.readouterr()
    assert json.loads(told.out) == {"verdict": "won"}
    challenges = told.err.count("challenging")
    assert challenges >= 3
    # Escrow back, half of the deposit won; of each challenge that was opened the stake is lost.
    stake = deposit // CHALLENGE_PARTS
    expected = before + 6 * 10**7 + deposit // 2 - (challenges - 1) * stake - (challenges + 1) * FEE
    assert await case.get_coins(HOLDER) == expected
    assert (await case.get()).status == "absent"


async def test_without_the_text_the_provider_is_made_to_show_it(
    live: LiveNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = await make_case(live, tmp_path / "own", make_answer(NAME))

    def open_(place: Place) -> AnswerOpening:
        return open_answer(make_server(NAME), case.traced, (place,))[0]

    assert await case.pursue(open_) == ExitCode.OK
    told = capsys.readouterr()
    assert json.loads(told.out) == {"verdict": "honest"}
    assert told.err.count("challenging") == 1


async def test_an_answer_that_contradicts_itself_is_challenged_anywhere(
    live: LiveNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = make_answer(NAME)
    lie = Traced(replace(honest.answer, output=honest.answer.output[:-1] + b"\xff"), honest.passes)
    case = await make_case(live, tmp_path / "own", lie)
    receipt = str(case.directory / "receipt.json")
    assert await case.pursue(_refuse, "--receipt", receipt) == ExitCode.VERIFICATION_REFUSED
    told = capsys.readouterr()
    assert json.loads(told.out) == {"verdict": "won"}
    assert told.err.count("challenging") == 1


async def test_an_honest_answer_is_challenged_nowhere(live: LiveNode, tmp_path: Path) -> None:
    case = await make_case(live, tmp_path / "own", make_answer(NAME))
    assert await case.pursue(_refuse, "--receipt", str(case.directory / "receipt.json")) == ExitCode.OK
    assert (await case.get()).status == "answered"


async def test_an_opening_in_the_last_block_that_may_hold_it_is_seen(live: LiveNode, tmp_path: Path) -> None:
    """It may come between two questions; whoever closes then pays out what he meant to pursue."""
    case = await make_case(live, tmp_path / "own", make_answer(NAME))
    await case.send(HOLDER, ChallengeAnswer(case.inference, 0, 0, 0, 0, 0))
    await live.mine(OPEN_BLOCKS - 1)
    opening = open_answer(make_server(NAME), case.traced, (Place(0, 0, 0, 0, 0),))[0]
    roots, spec = get_checkpoint_roots(NAME), encode_spec(TINY_SPECS[NAME])
    shown = make_shown(case.inference, spec, case.traced.answer, roots, opening)
    loop, opened = asyncio.get_running_loop(), list[bool]()

    class Late(Sender):
        """Asks for the height just after the last block has come."""

        def get_height(self) -> int:
            if not opened:
                opened.append(True)
                asyncio.run_coroutine_threadsafe(case.send(MINER, shown), loop).result(30)
            return super().get_height()

    pursuit = Pursuit(Late(live.url, HOLDER, FEE), case.inference, ReceiptMaker(make_server(NAME), roots), print)
    asked = _get_asked(await case.get())
    assert asked is not None
    assert await asyncio.to_thread(pursuit._wait_for_opening, asked) == shown


async def test_what_the_provider_is_not_bound_to_is_not_pursued(
    live: LiveNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    liar = make_liar(NAME, run_first_pass(NAME)[0].program.ops[-1], 0)
    assert liar is not None
    case = await make_case(live, tmp_path / "own", liar.traced)
    other = Receipt(TINY_SPECS[NAME], make_answer(NAME).answer, get_checkpoint_roots(NAME), NO_BEACON, ())
    (case.directory / "other.json").write_bytes(encode_receipt(other))
    assert await case.pursue(_refuse, "--receipt", str(case.directory / "other.json")) == ExitCode.USAGE
    assert "bound to the answer" in capsys.readouterr().err


def _refuse(_place: Place) -> AnswerOpening:
    raise InvalidProof("silent", "found a challenge, expected none")
