"""Profit against detection: the closed form, the simulation beside it, and that a wrong draw shows."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.lab import audit_gains
from benchmarks.lab.audit_gains import (
    AUDITORS,
    CHEATS,
    FORGE,
    SKIP,
    WITHHOLD,
    Cheat,
    World,
    compute_auditors_part,
    compute_caught,
    compute_deposit,
    compute_gain,
    compute_stakes,
    simulate_gain,
)
from benchmarks.lab.audit_gains_page import Cell, list_worlds, play_cells, render_page
from chain.genesis import Parameters
from chain.hashing import tagged_hash
from chain.primitives import PublicKey
from node.cli import main

STAKES = compute_stakes(Parameters())
FREE = Cheat("costs nothing, places see nothing", 0.0, 0.0)
TRIALS = 400


def test_the_stakes_are_those_of_a_full_round() -> None:
    shared = compute_stakes(Parameters(audit_bp=0))
    # Nine blocks of ten coins, a tenth for the treasury, over eight segments.
    assert shared.reward == pytest.approx(81 / 8)
    assert STAKES.reward == pytest.approx(4.5 * 9 / 8 * (1 + 1 / 1.25))
    assert STAKES.audit_pay == pytest.approx(4.5 * 9 / 8 / 1.25 / 4)


@pytest.mark.parametrize(
    ("world", "caught"),
    [
        (World(10_000, 0, 0), 1.0),
        (World(5_000, 0, 0), 0.5),
        (World(10_000, AUDITORS // 4, 0), 0.75),
        (World(10_000, AUDITORS // 4, 1), 0.875),
        (World(20_000, AUDITORS // 2, 0), 1 - 0.5 * 31 / 63),
        (World(15_000, AUDITORS // 2, 0), 1 - (0.5 * 0.5 + 0.5 * 0.5 * 31 / 63)),
        (World(0, 0, 2), 0.75),
    ],
)
def test_the_chance_to_be_caught(world: World, caught: float) -> None:
    assert compute_caught(world, FREE) == pytest.approx(caught)


def test_gains_by_hand() -> None:
    assert compute_gain(STAKES, World(10_000, 0, 0), FREE) == pytest.approx(-STAKES.deposit / 2)
    assert compute_gain(STAKES, World(0, 0, 0), FREE) == pytest.approx(STAKES.reward)
    half = World(10_000, AUDITORS // 2, 0)
    by_hand = STAKES.reward - 0.5 * (STAKES.reward + STAKES.deposit / 2) + 0.5 * STAKES.audit_pay
    assert compute_gain(STAKES, half, FREE) == pytest.approx(by_hand)


@pytest.mark.parametrize("world", list_worlds())
def test_whom_places_always_find_loses_in_every_world(world: World) -> None:
    stakes = compute_stakes(Parameters(audit_bp=world.audit_bp))
    assert compute_gain(stakes, world, SKIP) == pytest.approx(-stakes.deposit / 2)
    assert compute_gain(stakes, world, WITHHOLD) == pytest.approx(-stakes.reward - stakes.deposit / 2)


@pytest.mark.parametrize("world", [world for world in list_worlds() if compute_caught(world, FORGE) < 1])
def test_from_the_deposit_of_the_table_on_a_cheat_loses(world: World) -> None:
    stakes = compute_stakes(Parameters(audit_bp=world.audit_bp))
    deposit = compute_deposit(stakes, world, FORGE)
    more, less = (replace(stakes, deposit=deposit + change) for change in (0.01, -0.01))
    assert compute_gain(more, world, FORGE) < 0 < compute_gain(less, world, FORGE)


def test_vouching_falsely_pays_where_nobody_looks_alone() -> None:
    assert compute_auditors_part(STAKES, 0.0) == pytest.approx(STAKES.audit_pay)
    assert compute_auditors_part(STAKES, 0.5) == pytest.approx(-STAKES.penalty / 2), "silence is better"


@pytest.mark.parametrize(
    "world", [World(313, 16, 1), World(5_000, 32, 0), World(10_000, 16, 1), World(15_000, 32, 0), World(20_000, 32, 0)]
)
@pytest.mark.parametrize("cheat", CHEATS)
def test_the_simulation_agrees(world: World, cheat: Cheat) -> None:
    stakes = compute_stakes(Parameters(audit_bp=world.audit_bp))
    cell = Cell(world, cheat, compute_gain(stakes, world, cheat), *simulate_gain(stakes, world, cheat, TRIALS, 1))
    assert cell.is_near, cell


def test_a_draw_that_favours_the_coalition_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    first = PublicKey(tagged_hash("auditor", (0).to_bytes(4, "little")))
    monkeypatch.setattr(audit_gains, "draw_auditors", lambda *_: (first,))
    audit_gains._draw.cache_clear()
    world = World(10_000, 16, 0)
    cell = Cell(world, FORGE, compute_gain(STAKES, world, FORGE), *simulate_gain(STAKES, world, FORGE, TRIALS, 1))
    audit_gains._draw.cache_clear()
    assert not cell.is_near


def test_the_page_tells_gains_and_what_does_not_agree() -> None:
    cells = play_cells(50, 1, lambda _line: None)
    page = render_page(cells, 50, 1)
    assert "**+" in page
    assert f"All {len(cells)} simulated means" in page
    wrong = [replace(cells[0], simulated=cells[0].computed + 100), *cells[1:]]
    assert f"**1 of {len(cells)} simulated means" in render_page(wrong, 50, 1)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "audits", "--quick", "--out", str(tmp_path)]) == 0
    assert "# Audits: profit against detection" in capsys.readouterr().out
    assert main(["lab", "audits", "--trials", "60", "--out", str(tmp_path)]) == 0
    assert "## When vouching falsely pays" in (tmp_path / "audits.md").read_text()
