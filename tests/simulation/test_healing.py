"""From the end of all faults to one tip: what is overdue and what only waits for the block that decides."""

import pytest

from benchmarks.lab.simulator import mining
from benchmarks.lab.simulator.healing import SPREAD_S, TIE_FACTOR, Healing
from benchmarks.lab.simulator.schedule import SHORT
from benchmarks.lab.simulator.simulation import Focus, run_seed
from chain.primitives import Hash

ONE, OTHER = Hash(b"1" * 32), Hash(b"2" * 32)
DUE_S = SHORT.faults_s + SHORT.healing_s
PARTITIONS = Focus(("partition",), ("chatter",))


def test_heads_of_unequal_work_are_overdue() -> None:
    healing = Healing(SHORT)
    assert not healing.look(DUE_S, {ONE: 7, OTHER: 8})
    assert not healing.is_overdue(DUE_S)
    assert healing.is_overdue(DUE_S + 1)


def test_a_machine_that_is_down_is_overdue() -> None:
    healing = Healing(SHORT)
    healing.look(DUE_S + 1, {ONE: 8, Hash(b""): 0})
    assert healing.is_overdue(DUE_S + 1)


def test_equal_branches_may_stand_and_what_decides_may_spread() -> None:
    healing = Healing(SHORT)
    healing.look(DUE_S + 5, {ONE: 8, OTHER: 8})
    healing.look(DUE_S + 6, {ONE: 8, OTHER: 9})
    assert not healing.is_overdue(DUE_S + 5 + SPREAD_S)
    assert healing.is_overdue(DUE_S + 6 + SPREAD_S)
    assert healing.look(DUE_S + 6 + SPREAD_S, {OTHER: 9})
    assert not healing.is_overdue(DUE_S + 1_000)


def test_a_tie_that_nobody_ever_decides_is_overdue() -> None:
    healing, end_s = Healing(SHORT), SHORT.faults_s + TIE_FACTOR * SHORT.healing_s
    healing.look(end_s + 1, {ONE: 8, OTHER: 8})
    assert not healing.is_overdue(end_s)
    assert healing.is_overdue(end_s + 1)


def test_one_tip_before_the_end_of_all_faults_heals_nothing() -> None:
    healing = Healing(SHORT)
    assert not healing.look(SHORT.faults_s, {ONE: 8})
    assert healing.look(SHORT.faults_s + 1, {ONE: 8})
    assert not healing.look(SHORT.faults_s + 2, {ONE: 8})


def test_a_network_whose_miners_are_out_of_luck_heals_with_the_block_that_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three miners once found nothing for half a minute, on two branches of equal work."""
    monkeypatch.setattr(mining, "INTERVAL_MS", 25_000)
    result = run_seed(201, focus=PARTITIONS)
    assert result.failure is None
    assert result.healed_s is not None
    assert result.healed_s > SHORT.healing_s
