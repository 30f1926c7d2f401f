"""Rounds beside synchronous training: who is there, what is counted, and a campaign that is cut and goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lab.aggregation import Arm, Job, Point, Presence, list_present, run_arm
from benchmarks.lab.aggregation_campaign import (
    ALIKE,
    CONTRIBUTORS,
    FOUR,
    ONE,
    SYNCHRONOUS,
    ArmRecord,
    make_plan,
    read_arm_records,
    run_campaign,
)
from benchmarks.lab.aggregation_page import compute_rounds_to, render_page
from benchmarks.lab.records import LabError
from chain.hashing import tagged_hash
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import Dataset
from ml.models import build_program
from ml.segment import run_segment
from ml.settlement import compute_next_checkpoint
from node.cli import main
from node.datasets import load_dataset
from node.exit_codes import ExitCode

PLAN = make_plan(8, is_quick=True)
BACKEND = get_backend("cpu")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(PLAN.dataset, PLAN.heldout)


def get_arm(name: str) -> Arm:
    return next(arm for arm in PLAN.arms if arm.name == name)


def run(arm: Arm, dataset: Dataset) -> tuple[list[Point], bytes]:
    points: list[Point] = []
    checkpoint = run_arm(Job(arm, dataset, 7, PLAN.steps, 4), BACKEND, points.append)
    return points, b"".join(part.tobytes() for part in checkpoint.weights)


def test_arms_are_fair() -> None:
    whole, segment = get_arm(SYNCHRONOUS).spec, get_arm(FOUR).spec
    assert whole.batch == CONTRIBUTORS * segment.batch
    assert whole.segment_steps == PLAN.steps
    assert PLAN.steps % segment.segment_steps == 0
    assert all(arm.spec.model == whole.model for arm in PLAN.arms)
    assert get_arm(ONE).spec == segment


def test_four_see_what_synchronous_training_sees_and_one_a_quarter(dataset: Dataset) -> None:
    samples = {name: run(get_arm(name), dataset)[0][-1].samples for name in (SYNCHRONOUS, FOUR, ONE)}
    assert samples[SYNCHRONOUS] == samples[FOUR] == CONTRIBUTORS * samples[ONE]
    assert samples[ONE] == PLAN.steps * get_arm(ONE).spec.batch


@pytest.mark.parametrize("name", ["four, 4 bits", "four"])
def test_a_round_is_the_chains_own(dataset: Dataset, name: str) -> None:
    arm = replace(get_arm(name), contributors=2)
    program = build_program(replace(arm.spec, init_seed=7))
    start = compute_initial_checkpoint(program)
    seeds = [tagged_hash("lab", b"aggregation", *(part.to_bytes(8, "little") for part in (7, 0, i))) for i in range(2)]
    deltas = [run_segment(program, BACKEND, start, dataset, seed).deltas for seed in seeds]
    expected = compute_next_checkpoint(program, start, deltas)
    found = run_arm(Job(arm, dataset, 7, program.steps, program.steps), BACKEND, lambda _point: None)
    pairs = zip((*found.weights, *found.momentum), (*expected.weights, *expected.momentum), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)


def test_whoever_is_late_or_away_is_drawn_anew_for_each_round() -> None:
    late, ragged = (replace(get_arm(FOUR), presence=presence) for presence in (Presence.LATE, Presence.RAGGED))
    missing = [set(range(CONTRIBUTORS)) - set(list_present(late, 1, number)) for number in range(200)]
    assert all(len(gone) == 1 for gone in missing)
    assert set().union(*missing) == set(range(CONTRIBUTORS))
    rounds = [list_present(ragged, 1, number) for number in range(200)]
    assert {len(present) for present in rounds} == {2, 3, 4}
    assert all(present == tuple(sorted(set(present))) for present in rounds)
    assert rounds != [list_present(ragged, 2, number) for number in range(200)]
    assert list_present(get_arm(FOUR), 1, 5) == (0, 1, 2, 3)


def test_a_late_delta_moves_nothing(dataset: Dataset) -> None:
    late = replace(get_arm(FOUR), presence=Presence.LATE)
    points, _ = run(late, dataset)
    assert points[-1].samples == PLAN.steps * late.spec.batch * (CONTRIBUTORS - 1)


def test_rates_follow_the_rounds_of_a_run() -> None:
    arms = {arm.name: arm.spec for arm in make_plan(2_000, is_quick=False).arms}
    four, alike = arms[FOUR], arms[ALIKE]
    assert (four.warmup_rounds, four.decay_rounds, four.learning_rate) == (8, 68, arms[SYNCHRONOUS].learning_rate)
    assert (alike.warmup_rounds, alike.decay_rounds) == (0, 0)
    assert alike.learning_rate < four.learning_rate


def test_a_cut_campaign_goes_on_and_shows_what_there_is(tmp_path: Path, dataset: Dataset) -> None:
    results, said = tmp_path / "aggregation.jsonl", list[str]()
    plan = replace(PLAN, arms=PLAN.arms[:3])
    run_campaign(plan, (1, 2), results, dataset, BACKEND, said.append)
    whole, records = results.read_bytes(), read_arm_records(results)
    assert [(record.arm, record.seed) for record in records] == [
        (name, seed) for name in (SYNCHRONOUS, FOUR, ONE) for seed in (1, 2)
    ]
    assert all(record.points[-1].steps == PLAN.steps for record in records)
    results.write_bytes(whole[:-10])
    said.clear()
    run_campaign(plan, (1, 2), results, dataset, BACKEND, said.append)
    assert [line for line in said if "held-out" in line and "step" not in line] == [said[-1]]
    again = read_arm_records(results)
    assert [(record.points, record.heldout_loss) for record in again] == [
        (record.points, record.heldout_loss) for record in records
    ]
    page = render_page(PLAN, again)
    assert "| four, ragged | 0 | - | - | - | not run | - |" in page
    results.write_text("{}\n")
    with pytest.raises(LabError, match="line 1"):
        read_arm_records(results)


def make_record(arm: str, seed: int, losses: tuple[float, ...]) -> ArmRecord:
    points = tuple(Point(10 * (place + 1), 40 * (place + 1), loss, loss) for place, loss in enumerate(losses))
    rounds = 0 if arm == SYNCHRONOUS else len(losses)
    finished = ("a machine", "versions", "2026-01-01T00:00:00+00:00")
    return ArmRecord(arm, seed, PLAN.steps, losses[-1], points, rounds, 1.0, 1.0, *finished)


def test_the_page_says_what_the_records_say() -> None:
    records = [make_record(SYNCHRONOUS, seed, (4.0, 3.0, 2.0)) for seed in (1, 2)]
    records += [make_record(FOUR, 1, (4.0, 2.5, 2.04)), make_record(FOUR, 2, (4.0, 2.5, 2.08))]
    records += [make_record(ONE, 1, (5.0, 4.0, 3.0)), make_record(ONE, 2, (5.0, 4.0, 1.0))]
    page = render_page(PLAN, records)
    assert "1.0300 (1.0200 to 1.0400) | met (≤ 1.03)" in page
    four = records[2]
    assert (compute_rounds_to(four, 3.0, 10), compute_rounds_to(four, 1.0, 10)) == (2, None)
    assert "| 2 | 1.0000 | 3 | never | - |" in page
    worse = [replace(record, heldout_loss=2.07) if record.arm == FOUR else record for record in records]
    assert "missed (> 1.03)" in render_page(PLAN, worse)
    shorter = [replace(record, steps=4) for record in records if record.arm == FOUR]
    shorter.append(replace(make_record("four, 4 bits", 1, (4.0, 3.0, 2.142)), steps=4))
    other = render_page(PLAN, records + shorter).partition("## Beside four contributors, after 4 steps")[2]
    assert "| four, 4 bits | 1 | 120 | 2.1420 | 1.0500 (1.0500 to 1.0500) |  | 1.0500 |" in other
    assert "not run" not in other


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "aggregation", "--render", "--out", str(tmp_path)]) == ExitCode.USAGE
    assert main(["lab", "aggregation", "--quick", "--arm", "five", "--out", str(tmp_path)]) == ExitCode.USAGE
    assert "found no arm 'five'" in capsys.readouterr().err
    assert main(["lab", "aggregation", "--quick", "--seed", "1", "--out", str(tmp_path)]) == ExitCode.OK
    page = (tmp_path / "aggregation-quick.md").read_text()
    assert page in capsys.readouterr().out
    assert "not run" not in page
