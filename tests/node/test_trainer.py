"""A run on one's own machine: what is refused before it starts, what survives what, and that every bit is right.

Runs are real: in this process where the outcome is asked for, as processes of their own where they are killed.
"""

import fcntl
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml.evaluation import compute_evaluation
from ml.segment import run_segment
from ml.spec import DIGITS, Mlp
from node.cli import main
from node.models import ModelError, read_state, write_state
from node.models.export import strip_moments
from node.models.specs import format_spec
from node.training import Schedule, fit_spec, make_plan, open_run, train
from node.training.loop import Watch
from node.training.metrics import EvaluationRecord, Record
from node.training.plan import parse_seed
from node.training.run_directory import list_checkpoints
from tests.support.models import TINY_SPECS, make_case

ROOT = Path(__file__).parents[2]
STEPS = 60
SPEC = replace(DIGITS, model=Mlp((64, 8, 10)), batch=4, segment_steps=STEPS, warmup_steps=2, decay_steps=20)
WORDS = "to be or not to be, that is the question: whether 'tis nobler in the mind to suffer\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty directory with a cache of its own and three files: two specs and a text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MATHESIS_DATASETS", str(tmp_path / "cache"))
    (tmp_path / "small.json").write_text(format_spec(SPEC))
    (tmp_path / "text.json").write_text(format_spec(replace(TINY_SPECS["decoder"], segment_steps=4)))
    (tmp_path / "text.txt").write_text(WORDS * 150)
    return tmp_path


def run(*arguments: str, spec: str = "small.json", data: str = "digits") -> int:
    return main(["train", spec, "--data", data, "--out", "out", "--backend", "reference", *arguments])


def read_files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def read_lines(directory: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "node.cli", "train", "small.json", "--data", "digits", "--out", "out"]
    return subprocess.Popen(
        [*command, "--backend", "reference", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def count_steps(directory: Path) -> int:
    path = directory / "metrics.jsonl"
    return path.read_bytes().count(b'"event":"step"') if path.exists() else 0


def wait_for_steps(directory: Path, steps: int) -> None:
    deadline_s = time.monotonic() + 60
    while count_steps(directory) < steps:
        assert time.monotonic() < deadline_s, f"waited in vain for {steps} steps"
        time.sleep(0.002)


# What is refused before anything is written


@pytest.mark.parametrize(
    "case",
    [
        ("small.json", "text.txt", (), "found text, expected labelled examples"),
        ("text.json", "digits", (), "found examples, expected a text"),
        ("small.json", "mine", (), "unknown-dataset"),
        ("gpt", "digits", (), "unknown-spec"),
        ("wide.json", "digits", (), "found 64 inputs an example, expected the model's 65"),
        ("few.json", "digits", (), "found label 9, expected labels below the model's 9 classes"),
        ("greedy.json", "digits", (), "found 1797 records to hold out"),
        ("ascii.json", "utf8.txt", (), "expected bytes below the vocabulary 128"),
        ("text.json", "short.txt", (), "expected at least 4096"),
        ("small.json", "digits", ("--steps", "65536"), "--steps"),
        ("small.json", "digits", ("--learning-rate", "fast"), "expected a decimal"),
        ("small.json", "digits", ("--learning-rate", "0.2"), "a learning rate below 1/8"),
        ("small.json", "digits", ("--seed", "xyz"), "hex digits"),
        ("small.json", "digits", ("--seed", "1" * 65), "hex digits"),
        ("small.json", "digits", ("--threads", "0"), "--threads"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], case: tuple[str, str, tuple[str, ...], str]
) -> None:
    spec, data, arguments, expected = case
    (place / "wide.json").write_text(format_spec(replace(SPEC, model=Mlp((65, 8, 10)))))
    (place / "few.json").write_text(format_spec(replace(SPEC, model=Mlp((64, 8, 9)))))
    (place / "greedy.json").write_text(format_spec(replace(SPEC, heldout=1797)))
    (place / "ascii.json").write_text((place / "text.json").read_text())
    (place / "utf8.txt").write_text("caf\u00e9 " * 2000)
    (place / "short.txt").write_text("too short")
    assert run(*arguments, spec=spec, data=data) == 2
    assert expected in capsys.readouterr().err
    assert not (place / "out").exists()


def test_tensorboard_is_asked_for_before_anything_is_written(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert run("--steps", "4", "--tensorboard") == 1
    assert "pip install tensorboard" in capsys.readouterr().err
    assert not (place / "out").exists()


def test_a_used_directory_is_left_as_it_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--steps", "4") == 0
    (place / "out" / "lock").unlink()
    before = read_files(place / "out")
    assert run("--steps", "4") == 1
    assert "--resume" in capsys.readouterr().err
    assert read_files(place / "out") == before


@pytest.mark.parametrize(
    "case",
    [
        (("--steps", "9"), "digits", "found segment steps 8, expected 9"),
        (("--steps", "8", "--learning-rate", "0.001"), "digits", "found learning rate '0.006', expected '0.001'"),
        (("--steps", "8", "--seed", "1"), "digits", "found seed"),
        (("--steps", "8"), "other.json", "found data root"),
    ],
)
@pytest.mark.parametrize("has_metrics", [True, False])
def test_a_checkpoint_of_another_run_is_refused_and_left_as_it_is(
    place: Path, capsys: pytest.CaptureFixture[str], case: tuple[tuple[str, ...], str, str], has_metrics: bool
) -> None:
    arguments, data, expected = case
    write_other_digits(place)
    assert run("--steps", "8") == 0
    if not has_metrics:
        (place / "out" / "metrics.jsonl").unlink()
    before = read_files(place / "out")
    assert run("--resume", *arguments, data=data) == 1
    assert expected in capsys.readouterr().err
    assert read_files(place / "out") == before


def write_other_digits(place: Path) -> None:
    """Write a data set of the same shape as the digits and other content."""
    rows = [[(i * j) % 17 for j in range(64)] + [i % 10] for i in range(800)]
    (place / "other.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    manifest = {"name": "other", "source": "file", "parser": "digits_csv", "licence": "CC0-1.0", "path": "other.csv"}
    (place / "other.json").write_text(json.dumps(manifest))


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@pytest.mark.parametrize(("damage", "code"), [(cut, 7), (flip, 7), (lambda _: b"", 7)])
def test_a_damaged_checkpoint_is_refused_and_left_as_it_is(
    place: Path, damage: Callable[[bytes], bytes], code: int
) -> None:
    assert run("--steps", "8") == 0
    last = list_checkpoints(place / "out")[-1]
    last.write_bytes(damage(last.read_bytes()))
    before = read_files(place / "out")
    assert run("--steps", "8", "--resume") == code
    assert read_files(place / "out") == before
    last.unlink()
    assert run("--steps", "8", "--resume") == 0


def test_a_checkpoint_without_moments_is_no_place_to_go_on_from(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--steps", "8") == 0
    last = list_checkpoints(place / "out")[-1]
    write_state(last, strip_moments(read_state(last)))
    assert run("--steps", "8", "--resume") == 1
    assert "found no moments" in capsys.readouterr().err


@pytest.mark.parametrize("line", [0, 3])
def test_metrics_that_lack_a_line_are_refused(place: Path, capsys: pytest.CaptureFixture[str], line: int) -> None:
    assert run("--steps", "8") == 0
    path = place / "out" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:line] + lines[line + 1 :]))
    before = read_files(place / "out")
    assert run("--steps", "8", "--resume") == 7
    assert "metrics.jsonl" in capsys.readouterr().err
    assert read_files(place / "out") == before


def test_a_directory_that_another_process_holds_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "out").mkdir()
    with (place / "out" / "lock").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run("--steps", "4") == 3
    assert "in use" in capsys.readouterr().err
    assert sorted(read_files(place / "out")) == ["lock"]


# What survives what


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(place: Path) -> None:
    """Killed at random moments, among them in the middle of a write; each time it goes on from what is on disk."""
    assert run("--checkpoint-every", "1", "--evaluate-every", "7", "--keep", "2") == 0
    whole = place / "whole"
    (place / "out").rename(whole)
    seed = random.SystemRandom().randrange(1 << 32)
    draw, kills = random.Random(seed), 0
    while kills < 4:
        process = start("--checkpoint-every", "1", "--evaluate-every", "7", "--keep", "2", "--resume")
        wait_for_steps(place / "out", min(count_steps(place / "out") + draw.randrange(2, 10), STEPS - 5))
        time.sleep(draw.random() / 50)
        process.kill()
        process.communicate()
        kills += 1
    assert not (place / "out" / f"step-{STEPS:06d}.safetensors").exists(), f"seed {seed}"
    process = start("--checkpoint-every", "1", "--evaluate-every", "7", "--keep", "2", "--resume")
    assert process.wait(60) == 0, process.communicate()[1]
    process.communicate()
    assert_same_run(place / "out", whole, f"seed {seed}")


def assert_same_run(found: Path, expected: Path, message: str) -> None:
    """Check that checkpoints are the same files and metrics the same but for times."""
    names = [path.name for path in list_checkpoints(expected)]
    assert [path.name for path in list_checkpoints(found)] == names, message
    for name in names:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), message
    times = ("elapsed_s", "rows_per_second")
    ours, theirs = (
        [{name: value for name, value in line.items() if name not in times} for line in read_lines(directory)]
        for directory in (found, expected)
    )
    assert ours == theirs, message
    assert not [path for path in found.iterdir() if path.name.startswith(".")], message


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_a_checkpoint(place: Path, number: signal.Signals, code: int) -> None:
    assert run("--checkpoint-every", "0", "--evaluate-every", "0") == 0
    (place / "out").rename(place / "whole")
    process = start("--checkpoint-every", "0", "--evaluate-every", "0")
    wait_for_steps(place / "out", 3)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    steps = count_steps(place / "out")
    assert f"stopped after step {steps} of {STEPS}; add --resume to go on" in error
    assert [path.name for path in list_checkpoints(place / "out")] == [f"step-{steps:06d}.safetensors"]
    assert run("--checkpoint-every", "0", "--evaluate-every", "0", "--resume") == 0
    last = f"step-{STEPS:06d}.safetensors"
    assert (place / "out" / last).read_bytes() == (place / "whole" / last).read_bytes()


def test_a_line_that_a_crash_has_torn_is_cut_off(place: Path) -> None:
    assert run("--steps", "12", "--checkpoint-every", "4") == 0
    whole = place / "whole"
    (place / "out").rename(whole)
    assert run("--steps", "12", "--checkpoint-every", "4") == 0
    (place / "out" / "step-000012.safetensors").unlink()
    path = place / "out" / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-30] + b"\0\0\0")
    (place / "out" / ".writing-1-step-000012.safetensors").write_bytes(b"half a checkpoint")
    assert run("--steps", "12", "--checkpoint-every", "4", "--resume") == 0
    assert_same_run(place / "out", whole, "torn")


def test_a_full_disk_ends_a_run_and_leaves_no_half_file(place: Path) -> None:
    """A limit on the size of files stands for the disk: metrics fit, a checkpoint does not."""
    process = start("--checkpoint-every", "2")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8_000, 8_000))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "File too large" in error
    assert "Traceback" not in error
    assert sorted(read_files(place / "out")) == ["lock", "metrics.jsonl"]
    assert run("--checkpoint-every", "2", "--resume") == 0


# That every bit is as it must be


@pytest.mark.parametrize("name", sorted(TINY_SPECS))
def test_a_run_is_a_segment_of_the_chain(place: Path, name: str) -> None:
    case = make_case(name)
    plan = make_plan(case.spec, case.dataset, case.runner.backend, bytes(range(32)))
    seen: list[Record] = []
    with open_run(place / name, plan, is_resuming=False) as opened:
        state = train(plan, plan.make_runner(), opened, Schedule(0, 0, 0), Watch(seen.append, lambda: False))
    runner = plan.make_runner()
    result = run_segment(runner.program, runner.backend, runner.checkpoint, runner.dataset, plan.seed)
    for ours, theirs in zip((*state.weights, *state.moments), result.state, strict=True):
        assert np.array_equal(ours, theirs)
    written = read_state(list_checkpoints(place / name)[-1])
    score = compute_evaluation(runner.program, runner.backend, written.checkpoint, runner.dataset)
    record = next(record for record in seen if isinstance(record, EvaluationRecord))
    assert (record.loss_f16, record.correct, record.count) == (score.loss_f16, score.correct, score.count)


def test_a_text_is_trained_from_a_file(place: Path) -> None:
    assert run("--json", spec="text.json", data="text.txt") == 0
    last = list_checkpoints(place / "out")[-1]
    assert main(["model", "evaluate", str(last), "--backend", "reference"]) == 0


def test_json_tells_what_the_file_keeps(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--steps", "6", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line["event"] != "checkpoint"] == read_lines(place / "out")
    assert [line["step"] for line in lines if line["event"] == "step"] == [1, 2, 3, 4, 5, 6]


def test_checkpoints_beyond_those_to_keep_are_deleted(place: Path) -> None:
    assert run("--steps", "9", "--checkpoint-every", "2", "--keep", "2") == 0
    assert [path.stem for path in list_checkpoints(place / "out")] == ["step-000008", "step-000009"]
    assert (
        main(["train", "small.json", "--data", "digits", "--out", "all", "--backend", "reference", "--keep", "0"]) == 0
    )
    assert len(list_checkpoints(place / "all")) == 10


@pytest.mark.parametrize(
    ("steps", "warmup", "decay"), [(1, 0, 0), (3, 0, 1), (64, 4, 32), (640, 4, 320), (65_535, 4, 32_767)]
)
def test_a_schedule_is_fitted_to_a_run(steps: int, warmup: int, decay: int) -> None:
    spec = fit_spec(DIGITS, steps)
    assert (spec.segment_steps, spec.warmup_steps, spec.decay_steps) == (steps, warmup, decay)


def test_a_seed_is_a_number_in_hex() -> None:
    assert parse_seed("0xFf") == bytes(31) + b"\xff"
    with pytest.raises(ModelError):
        parse_seed("")
