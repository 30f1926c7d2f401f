"""Real processes under torchrun: the files of one process, whatever their number, and no process left when one is lost.

The exchange is gloo on loopback, the backend the reference. What needs no process of its own runs in threads.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ml.arithmetic import IntArray
from ml.backends import get_backend
from ml.dataset import build_dataset, encode_text
from ml.segment import compute_initial_state
from ml.sharding import Exchange, Pending
from node.exit_codes import CommandError, ExitCode
from node.models.errors import ModelError
from node.models.specs import format_spec
from node.training.exchange import Disagreement, LostProcess, check_agreement, open_exchange
from node.training.loop import Schedule, Watch, train
from node.training.plan import Plan, fit_spec, make_plan
from node.training.processes import LEADER, State, compute_state_digest, follow, lead
from node.training.run_directory import METRICS_NAME, get_checkpoint_path, open_run
from tests.support.exchange import run_threads
from tests.support.models import TINY_SPECS
from tests.support.processes import find_ports, wait_until

STEPS = 6
TEXT = b"It is a truth universally acknowledged, that a single man in possession of a good fortune. " * 100
SPEC = replace(TINY_SPECS["decoder-tied"], batch=5, heldout=1)
NOTHING = Schedule(checkpoint_every=0, evaluate_every=0, keep=0)


def make_tiny_plan(steps: int = STEPS) -> Plan:
    spec = fit_spec(SPEC, steps)
    return make_plan(spec, build_dataset(encode_text(TEXT), spec.heldout), get_backend("reference"))


def train_alone(path: Path, stop_after: int = STEPS) -> None:
    """Run one process's training, or its first steps."""
    seen: list[object] = []
    plan = make_tiny_plan()
    with open_run(path, plan, is_resuming=False) as run:
        # The run's own line is not told to the watch; the first records are steps.
        train(plan, plan.make_runner(), run, NOTHING, Watch(seen.append, lambda: len(seen) >= stop_after))


def read_losses(directory: Path) -> list[object]:
    records = [json.loads(line) for line in (directory / METRICS_NAME).read_text().splitlines()]
    return [record["loss_f16"] for record in records if "loss_f16" in record]


@contextmanager
def start_torchrun(folder: Path, size: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start processes that train in `folder`/run; whatever is left of them at the end is killed.

    One process is started as torchrun would start it, without waiting for a second that only watches it.
    """
    (folder / "spec.json").write_text(format_spec(SPEC))
    (folder / "text").write_bytes(TEXT)
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "MATHESIS_DATASETS": str(folder / "datasets")}
    command = [sys.executable, "-m"]
    if size == 1:
        environment |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_ports(1))}
    else:
        command += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(size), "-m"]
    command += ["node.training.distributed", str(folder / "spec.json"), "--data", str(folder / "text"), "--json"]
    command += ["--out", str(folder / "run"), "--backend", "reference", *arguments]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        for pid in (process.pid, *find_workers(folder)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def find_workers(folder: Path) -> list[int]:
    """Return the processes that train in `folder`, by their place in torchrun's group."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (path / "cmdline").read_bytes().split(b"\0")
            rank = dict(part.split(b"=", 1) for part in (path / "environ").read_bytes().split(b"\0") if b"=" in part)
        except OSError:
            continue
        if str(folder / "run").encode() in arguments and b"LOCAL_RANK" in rank:
            found[int(rank[b"LOCAL_RANK"])] = int(path.name)
    return [found[rank] for rank in sorted(found)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_number_of_processes_writes_the_files_of_one(tmp_path: Path, size: int) -> None:
    """Three of them go on from where one process was stopped."""
    train_alone(tmp_path / "alone")
    if size == 3:
        train_alone(tmp_path / "run", stop_after=2)
    with start_torchrun(tmp_path, size, "--steps", str(STEPS), *(("--resume",) if size == 3 else ())) as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    expected, found = (get_checkpoint_path(tmp_path / name, STEPS).read_bytes() for name in ("alone", "run"))
    assert found == expected
    assert read_losses(tmp_path / "run") == read_losses(tmp_path / "alone")
    costs = json.loads(output.splitlines()[-1])
    assert (costs["event"], costs["processes"]) == ("processes", size)
    assert costs["sum_bytes"] > 0 < costs["max_bytes"]


@pytest.mark.slow
def test_a_killed_process_ends_all_others(tmp_path: Path) -> None:
    with start_torchrun(tmp_path, 2, "--steps", "60000") as process:
        metrics = tmp_path / "run" / METRICS_NAME
        wait_until("some steps", lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > 3)
        workers = find_workers(tmp_path)
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
        assert process.returncode not in (0, None)
        assert "mathesis: process 0 lost another process of this training and stops" in errors
        assert not find_workers(tmp_path)


def test_a_process_that_torchrun_did_not_start_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(CommandError, match=r"found no RANK .* expected a start by torchrun") as caught:
        open_exchange("gloo", 1).__enter__()
    assert caught.value.code is ExitCode.USAGE


def test_a_process_without_a_gpu_is_told_of_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "99", "LOCAL_RANK": "99", "WORLD_SIZE": "100"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(CommandError, match="choose gloo"), open_exchange("nccl", 1):
        pass


def run_led(exchange: Exchange, steps: int, until: int) -> tuple[State | None, int]:
    """Run steps in the first thread and follow in the others; return the state and the number of steps."""
    plan = make_tiny_plan(steps)
    if exchange.rank != LEADER:
        return None, follow(plan, exchange)
    runner = plan.make_runner()
    state = compute_initial_state(runner.program, runner.checkpoint)
    with lead(exchange) as leader:
        for step in range(steps):
            if step == until:
                raise OSError("no space left")
            state = leader.run_step(runner, step, state).state
    return state, steps


def test_followers_take_as_many_steps_as_the_leader() -> None:
    found = run_threads(3, lambda exchange: run_led(exchange, 4, until=-1))
    assert [steps for _, steps in found] == [4, 4, 4]


def test_followers_stop_when_the_leader_cannot_write() -> None:
    messages: list[str] = []

    def work(exchange: Exchange) -> None:
        with pytest.raises((OSError, LostProcess)) as caught:
            run_led(exchange, 4, until=2)
        messages.append(str(caught.value))

    run_threads(2, work)
    assert sorted(messages) == ["no space left", "process 1 stops, since the first process has; its message says why"]


@dataclass(slots=True)
class FullExchange:
    """Runs out of memory at the first exchange inside a step of the first process."""

    inner: Exchange
    is_full: bool = False

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def size(self) -> int:
        return self.inner.size

    def start_max(self, x: IntArray) -> Pending:
        assert not self.is_full, "a process that has left a step says something to those inside it"
        return self.inner.start_max(x)

    def start_sum(self, x: IntArray) -> Pending:
        if self.rank == LEADER:
            self.is_full = True
            raise ModelError("memory", "this run takes more memory than there is")
        return self.inner.start_sum(x)


def test_nothing_is_said_to_processes_inside_a_step() -> None:
    """An exchange of their step would meet a word of another size, and wait for it."""
    messages: list[str] = []

    def work(exchange: Exchange) -> None:
        try:
            run_led(FullExchange(exchange), 2, until=-1)
        except (ModelError, AssertionError) as error:
            messages.append(str(error))
            raise

    with pytest.raises(ModelError, match="more memory than there is"):
        run_threads(2, work)
    assert sorted(messages) == ["another thread failed", "memory: this run takes more memory than there is"]


def test_a_follower_without_memory_says_so() -> None:
    class Leading:
        """Says the first step to the second of two processes, whose memory is full then."""

        rank, size = 1, 2

        def start_max(self, x: IntArray) -> Pending:
            return lambda: x * 0

        def start_sum(self, _: IntArray) -> Pending:
            raise MemoryError("Unable to allocate 1 TiB")

    with pytest.raises(ModelError, match="Unable to allocate 1 TiB") as caught:
        follow(make_tiny_plan(), Leading())
    assert caught.value.rule == "memory"


@dataclass(frozen=True, slots=True)
class FaultyExchange:
    """Flips a bit of every weight gradient that one process receives, as a broken machine might."""

    inner: Exchange

    @property
    def rank(self) -> int:
        return self.inner.rank

    @property
    def size(self) -> int:
        return self.inner.size

    def start_max(self, x: IntArray) -> Pending:
        return self.inner.start_max(x)

    def start_sum(self, x: IntArray) -> Pending:
        finish = self.inner.start_sum(x)
        return (lambda: finish() ^ 1 << 20) if self.rank == 1 and x.dtype == np.int32 else finish


def test_states_that_differ_are_found() -> None:
    def work(exchange: Exchange) -> None:
        with pytest.raises(Disagreement, match=f"process {exchange.rank} holds the state"):
            run_led(FaultyExchange(exchange), 2, until=-1)

    run_threads(2, work)


@pytest.mark.parametrize("place", [0, 31])
def test_one_bit_of_a_digest_is_a_disagreement(place: int) -> None:
    """The last byte is the highest of its word, so it shows a sign."""

    def work(exchange: Exchange) -> str:
        digest = bytearray(b"\xff" * 32)
        check_agreement(exchange, "the plan", bytes(digest))
        digest[place] ^= exchange.rank << 7
        with pytest.raises(Disagreement) as caught:
            check_agreement(exchange, "the plan", bytes(digest))
        return str(caught.value)

    assert [message.split(",")[0][:9] for message in run_threads(2, work)] == ["process 0", "process 1"]


def test_a_digest_of_a_state_is_of_all_its_bytes() -> None:
    runner = make_tiny_plan().make_runner()
    state = compute_initial_state(runner.program, runner.checkpoint)
    last = state[-1].copy()
    last[-1, -1] ^= 1 << 62
    assert compute_state_digest(state) != compute_state_digest((*state[:-1], last))
