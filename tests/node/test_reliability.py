"""A small fixed share of each part of the reliability campaign, and that each can tell when something is wrong."""

import asyncio
import json
import signal
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from benchmarks.lab.reliability import bombs, corruptions, kills, sequences
from benchmarks.lab.reliability.campaign import (
    Stretch,
    find_rest,
    keep_line,
    read_lines,
    render_page,
    run_part,
)
from benchmarks.lab.reliability.chains import Rules, Truth, make_diamonds, make_maker, make_rules, read_balances
from benchmarks.lab.reliability.corruptions import run_corruptions
from benchmarks.lab.reliability.deaths import Death, run_life
from benchmarks.lab.reliability.directories import open_node, prepare
from benchmarks.lab.reliability.disks import POINTS, Site
from benchmarks.lab.reliability.equivocations import run_equivocations
from benchmarks.lab.reliability.full_disks import SHORTAGES, run_full_disks
from benchmarks.lab.reliability.imports import run_imports
from benchmarks.lab.reliability.kills import run_kills
from benchmarks.lab.reliability.lives import Life, describe
from benchmarks.lab.reliability.part import Result, Setup, compute_quantile, run_cases
from benchmarks.lab.reliability.parts import PARTS
from benchmarks.lab.reliability.payloads import iter_frames
from benchmarks.lab.reliability.sequences import run_sequences
from benchmarks.lab.reliability.simulated import run_clocks
from chain.errors import StorageError
from chain.primitives import Hash
from node.cli.main import main
from node.exit_codes import ExitCode
from node.signing_record import SigningRecord
from p2p.messages import FRAME_BYTES_MAX, KINDS


def make_setup(root: Path, count: int, seed: int = 1) -> Setup:
    return Setup(count, seed, root, lambda _line: None)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_node_dies_at_a_chosen_write_and_comes_back(tmp_path: Path, point: str) -> None:
    rules = make_rules(tmp_path / "rules")
    base = prepare(rules, tmp_path / "node", 2)
    where = "signed" if point == "half" else "database"
    ended = run_life(Life(base.directory.root, site=Site(where, 2, point)), Death(60, is_early=False))
    assert ended.exit_code == -signal.SIGKILL
    assert ended.opened is not None
    assert ended.opened.head == base.head
    assert ended.opened.balances == base.truth.get_balances(base.head)
    again = run_life(Life(base.directory.root), Death(0.2, is_early=False))
    assert again.opened is not None
    committed = 1 if point == "after" else 0
    assert len(again.opened.recent) == 2 + len(ended.blocks) + committed


@pytest.mark.slow
def test_no_death_loses_what_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "TALL", 30)
    result = run_kills(make_setup(tmp_path, 8))
    assert result.reached == 8
    assert not result.failures
    assert len([name for name in result.figures if name.startswith("deaths")]) == 4


@pytest.mark.slow
def test_a_head_that_went_back_is_seen(tmp_path: Path) -> None:
    rules, result = make_rules(tmp_path / "rules"), Result()
    base = prepare(rules, tmp_path / "node", 4)
    story = kills.Story("a test", base.directory, base.truth, base.truth.learn(base.maker.make_block()))
    asyncio.run(check_story(rules, story, result))
    (failure,) = result.failures
    assert "told of height 5" in failure


async def check_story(rules: Rules, story: kills.Story, result: Result) -> None:
    async with open_node(story.directory, rules.setting.miners[0]) as node:
        kills._check_opened(story, describe(node, rules.setting, 0), 1, result)


def test_diamonds_reorganise(tmp_path: Path) -> None:
    rules = make_rules(tmp_path)
    maker, truth = make_maker(rules, 3), Truth(rules)
    blocks = make_diamonds(maker, 2, 2)
    for block in blocks:
        truth.learn(block)
    assert len(blocks) == 10
    branch = truth.list_branch(maker.tip.hash)
    assert len(branch) == 7
    assert sum(truth.get_balances(branch[0])[: len(rules.setting.miners)]) > 0


@pytest.mark.slow
def test_an_import_of_a_state_survives_its_deaths(tmp_path: Path) -> None:
    result = run_imports(make_setup(tmp_path, 3))
    assert (result.reached, result.failures) == (3, [])


@pytest.mark.slow
def test_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    result = run_corruptions(make_setup(tmp_path, 24))
    assert (result.reached, result.failures) == (24, [])


@pytest.mark.slow
def test_a_wrong_answer_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruptions, "read_balances", lambda *given: (*read_balances(*given)[:-1], 0))
    result = run_corruptions(make_setup(tmp_path, 16))
    assert result.failures
    assert all("WrongAnswer: the balances" in failure for failure in result.failures)


@pytest.mark.slow
def test_a_signed_block_that_rots_is_refused(tmp_path: Path) -> None:
    rules = make_rules(tmp_path / "rules")
    base = prepare(rules, tmp_path / "node", 0, produced=1)
    (path,) = base.directory.signed_path.glob("*.block")
    data = bytearray(path.read_bytes())
    # Deep in the ticket's opening, which no signature covers.
    data[-200] ^= 1
    path.write_bytes(data)
    record = SigningRecord(base.directory.signed_path)
    with pytest.raises(StorageError, match="cannot be read"):
        record.get(1, Hash(bytes.fromhex(path.stem[17:])))


@pytest.mark.slow
def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    # The last write of a block, and the first of a start.
    for seed in (7, 0):
        result = run_full_disks(make_setup(tmp_path / str(seed), 1, seed))
        if result.skipped:
            pytest.skip(result.skipped)
        assert (result.reached, result.failures) == (1, [])
    assert len({shortage.name for shortage in SHORTAGES}) == len(SHORTAGES) >= 20


@pytest.mark.slow
def test_second_contents_are_noticed(tmp_path: Path) -> None:
    result = run_equivocations(make_setup(tmp_path, 5))
    assert (result.reached, result.failures) == (5, [])
    assert result.figures["of which refused as surplus"] == "998"


@pytest.mark.slow
def test_random_actions_keep_what_must_hold(tmp_path: Path) -> None:
    result = run_sequences(make_setup(tmp_path, 1_000))
    assert (result.reached, result.failures) == (1_000, [])


@pytest.mark.slow
def test_a_broken_bound_ends_a_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "LATER_MAX", -1)
    (failure,) = run_sequences(make_setup(tmp_path, 100, seed=7)).failures
    assert failure == "seed 7: found 0 early transactions, expected at most -1"


@pytest.mark.slow
def test_simulated_seeds_are_those_with_the_fault(tmp_path: Path) -> None:
    result = run_clocks(make_setup(tmp_path, 4))
    assert (result.reached, result.failures) == (4, [])
    assert int(result.figures["times that a wrong clock began"]) > 0


def test_every_kind_of_message_has_its_bombs() -> None:
    frames = dict(iter_frames())
    assert max(map(len, frames.values())) <= FRAME_BYTES_MAX
    for record, limit_bytes in KINDS:
        assert limit_bytes - 8 <= len(frames[f"hollow {record.__name__}"]) <= limit_bytes
        assert limit_bytes - 8 <= len(frames[f"deep {record.__name__}"]) <= limit_bytes
    assert len(bombs.list_bombs()) > len(frames)


def run_three(setup: Setup) -> Result:
    return Result(3, {"a figure": f"{setup.seed}"}, [f"seed {setup.seed}: it broke"], next_seed=setup.seed + 7)


def test_a_part_s_last_result_is_kept_and_shown(tmp_path: Path) -> None:
    part, path = replace(PARTS[2], run=run_three), tmp_path / "reliability.jsonl"
    for seed in (5, 9):
        lines = keep_line(path, run_part(part, Stretch(seed, 3), lambda _line: None))
    assert [(line.reached, line.seed, line.next_seed) for line in read_lines(path)] == [(3, 9, 16)]
    page = render_page(lines)
    assert "3 of 500" in page
    assert "- seed 9: it broke" in page
    path.write_text(json.dumps({"part": "kills"}) + "\n")
    with pytest.raises(Exception, match="found no results"):
        read_lines(path)


def test_a_part_goes_on_where_it_was_left(tmp_path: Path) -> None:
    part, path = replace(PARTS[2], run=run_three, count=8), tmp_path / "reliability.jsonl"
    assert find_rest([], part) == Stretch(1, 8)
    for seed, left in ((1, 5), (8, 2), (15, 0)):
        lines = keep_line(path, run_part(part, Stretch(seed, 3), lambda _line: None), is_more=True)
        assert find_rest(read_lines(path), part) == Stretch(seed + 7, left)
    page = render_page(lines)
    assert "9 of 500" in page
    assert "| a figure | 1 | 8 | 15 |" in page
    assert page.count("it broke") == 3


def test_what_could_not_be_run_takes_no_result_away(tmp_path: Path) -> None:
    path, part = tmp_path / "reliability.jsonl", replace(PARTS[2], run=run_three)
    missing = replace(part, run=lambda _setup: Result(skipped="no such disk"))
    for each, reached in ((missing, [0]), (part, [3]), (missing, [3]), (part, [3, 3])):
        lines = keep_line(path, run_part(each, Stretch(1, 3), lambda _line: None), is_more=True)
        assert [line.reached for line in lines] == reached


def test_no_case_begins_when_time_is_over(tmp_path: Path) -> None:
    setup = replace(make_setup(tmp_path, 5), until_s=0.0)
    assert list(setup.seeds) == [1]
    for jobs in (1, 2):
        assert list(run_cases(replace(setup, jobs=jobs), abs, [-3, -4, -5])) == [3]
        assert list(run_cases(replace(setup, jobs=jobs, until_s=float("inf")), abs, [-3, -4, -5])) == [3, 4, 5]


def test_the_command_knows_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "reliability", "--part", "explosions"]) == ExitCode.USAGE
    assert "expected one of kills, imports" in capsys.readouterr().err


def test_quantiles() -> None:
    values = [float(number) for number in Random(1).sample(range(100), 100)]
    assert [compute_quantile(values, share) for share in (0.001, 0.5, 0.99, 1.0)] == [0.0, 49.0, 98.0, 99.0]
    assert compute_quantile(values[:40], 0.99) == max(values[:40])
    with pytest.raises(AssertionError):
        compute_quantile([], 0.5)
