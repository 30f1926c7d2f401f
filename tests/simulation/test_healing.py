"""From the end of all faults to one tip: what is overdue and what only waits for the block that decides."""

import asyncio
from random import Random

import pytest

from benchmarks.lab.simulator import mining
from benchmarks.lab.simulator.healing import SPREAD_S, TIE_FACTOR, Healing
from benchmarks.lab.simulator.mining import Won
from benchmarks.lab.simulator.schedule import SHORT
from benchmarks.lab.simulator.setting import Setting
from benchmarks.lab.simulator.simulation import Focus, run_seed
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from consensus.header_chain import ChainEntry

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
    find_ticket = mining.find_ticket
    lucky: set[PublicKey] = set()

    def find_one_each(setting: Setting, parent: ChainEntry, key: SigningKey, random: Random) -> Won | None:
        """Two miners find a block each, which makes a tie where they are apart; the next comes when it has stood."""
        if asyncio.get_running_loop().time() < DUE_S + 5:
            if key.public_key in lucky or key not in setting.miners[:2]:
                return None
            lucky.add(key.public_key)
        return find_ticket(setting, parent, key, random)

    monkeypatch.setattr(mining, "find_ticket", find_one_each)
    healed_s = []
    for seed in range(6, 14):
        lucky.clear()
        result = run_seed(seed, focus=PARTITIONS)
        assert result.failure is None
        healed_s.append(result.healed_s or 0.0)
    assert max(healed_s) > SHORT.healing_s
