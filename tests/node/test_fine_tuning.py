"""Training that goes on from somebody's checkpoint, and getting the network's own as a file."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from ml.backends import get_backend
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.segment import run_segment
from ml.spec import DIGITS, Mlp
from node.cli import main
from node.exit_codes import ExitCode
from node.models.provenance import parse_provenance
from node.models.specs import make_form
from node.models.state_file import ModelState, read_state, write_state
from node.rpc.client import RpcClient
from node.rpc.methods import CheckpointParams
from node.rpc.views import CheckpointView
from node.training.run_directory import list_checkpoints
from tests.support.live_node import LiveNode, run_live_node
from tests.support.models import TINY_MLP


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a small spec and a checkpoint of it that no run has made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.json").write_bytes(msgspec.json.encode(make_form(TINY_MLP)))
    weights = tuple(part + np.int32(7) for part in compute_initial_checkpoint(build_program(TINY_MLP)).weights)
    write_state(tmp_path / "theirs.safetensors", ModelState(TINY_MLP, bytes(32), bytes(32), 2, weights, ()))
    return tmp_path


def train(*arguments: str) -> int:
    options = ["--data", "digits", "--backend", "reference", "--steps", "4", "--json"]
    return main(["train", "small.json", *options, *arguments])


def read_last(folder: Path) -> ModelState:
    return read_state(list_checkpoints(folder)[-1])


def test_a_run_goes_on_from_a_checkpoint_and_says_so(place: Path) -> None:
    theirs = read_state(place / "theirs.safetensors").checkpoint
    assert train("--out", "own") == ExitCode.OK
    assert train("--out", "child", "--from", "theirs.safetensors") == ExitCode.OK
    own, child = read_last(place / "own"), read_last(place / "child")
    assert (own.start, child.start) == (b"", compute_checkpoint_root(theirs))
    assert own.seed != child.seed
    program = build_program(child.spec)
    dataset = load_digits(child.spec.heldout)
    honest = run_segment(program, get_backend("reference"), theirs, dataset, child.seed).state
    for found, expected in zip((*child.weights, *child.moments), honest, strict=True):
        assert np.array_equal(found, expected)
    assert main(["model", "export", str(list_checkpoints(place / "child")[-1]), "out", "--json"]) == ExitCode.OK
    [origin] = parse_provenance((place / "out" / "provenance.json").read_bytes(), "out").lineage
    assert origin.start == child.start.hex()
    assert child.start.hex() in (place / "out" / "README.md").read_text()
    assert main(["model", "import", "out", "--out", "back.safetensors"]) == ExitCode.OK
    assert read_state(place / "back.safetensors").start == child.start


def test_a_lineage_that_was_altered_is_refused(place: Path) -> None:
    assert train("--out", "child", "--from", "theirs.safetensors") == ExitCode.OK
    assert main(["model", "export", str(list_checkpoints(place / "child")[-1]), "out"]) == ExitCode.OK
    path = place / "out" / "provenance.json"
    told = json.loads(path.read_bytes())
    told["lineage"][0].pop("start")
    path.write_text(json.dumps(told))
    assert main(["model", "import", "out", "--out", "back.safetensors"]) == ExitCode.VERIFICATION_REFUSED


def test_what_was_cut_off_is_resumed_to_the_same_bits(place: Path) -> None:
    arguments = ("--from", "theirs.safetensors", "--checkpoint-every", "2", "--keep", "0")
    assert train("--out", "whole", *arguments) == ExitCode.OK
    assert train("--out", "cut", *arguments) == ExitCode.OK
    list_checkpoints(place / "cut")[-1].unlink()
    assert train("--out", "cut", *arguments, "--resume") == ExitCode.OK
    whole, cut = (list_checkpoints(place / name)[-1].read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_another_start_is_another_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--out", "child", "--from", "theirs.safetensors") == ExitCode.OK
    assert train("--out", "child", "--resume") == ExitCode.FAILURE
    assert "found start" in capsys.readouterr().err


def test_weights_of_another_model_are_no_start(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = replace(TINY_MLP, model=Mlp((64, 8, 10)))
    weights = compute_initial_checkpoint(build_program(other)).weights
    write_state(place / "other.safetensors", ModelState(other, bytes(32), bytes(32), 0, weights, ()))
    assert train("--out", "child", "--from", "other.safetensors") == ExitCode.USAGE
    assert "to start from" in capsys.readouterr().err
    assert not (place / "child").exists()


@pytest_asyncio.fixture
async def live(tmp_path: Path) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path / "node") as node:
        yield node


async def pull(live: LiveNode, *arguments: str) -> int:
    return await asyncio.to_thread(main, ["model", "pull", *arguments, "--rpc", live.url, "--json"])


async def test_the_networks_model_is_pulled_whole(live: LiveNode, place: Path) -> None:
    assert await pull(live, "network.safetensors") == ExitCode.OK
    state, first = read_state(place / "network.safetensors"), compute_initial_checkpoint(build_program(DIGITS))
    assert state.start == live.genesis.task.checkpoint_root
    assert all(np.array_equal(one, other) for one, other in zip(state.weights, first.weights, strict=True))
    assert await pull(live, "network.safetensors") == ExitCode.FAILURE, "nothing is overwritten"
    assert await pull(live, "later.safetensors", "--round", "9") == ExitCode.FAILURE
    assert await pull(live, "other.safetensors", "--task", "0x" + 64 * "1") == ExitCode.FAILURE, "nobody has posted it"
    assert not list(place.glob("[lo]*.safetensors"))


async def test_weights_of_another_root_are_refused(
    live: LiveNode, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest: Callable[[RpcClient, object, object], object] = RpcClient.call  # type: ignore[assignment]

    def lie(client: RpcClient, method: object, params: object) -> object:
        answer = honest(client, method, params)
        if isinstance(params, CheckpointParams):
            assert isinstance(answer, CheckpointView)
            return msgspec.structs.replace(answer, root="0x" + 64 * "1")
        return answer

    monkeypatch.setattr(RpcClient, "call", lie)
    assert await pull(live, "network.safetensors") == ExitCode.VERIFICATION_REFUSED
    assert "of root" in capsys.readouterr().err
    assert not (place / "network.safetensors").exists()
