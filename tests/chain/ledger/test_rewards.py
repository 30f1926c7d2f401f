"""Who is paid when a round ends: locked rewards, the pot, the subsidy; threats 36, 53, 59, 60."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.dispute import DemandOpening
from chain.genesis import Parameters
from chain.ledger.context import RewardDecided, RoundEnded
from chain.ledger.keys import SUPPLY_KEY, checkpoint_key, locked_reward_key
from chain.ledger.pricing import PRICE_UNIT_MACS
from chain.ledger.subsidy import compute_issuance_bound, compute_subsidy, compute_subsidy_split
from chain.ledger.task_pots import RENT
from chain.primitives import Hash
from chain.transaction import Transfer
from tests.support.hash_training import SEGMENT_MACS, STEPS
from tests.support.ledger import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    FUNDS,
    PARAMETERS,
    TASK,
    LedgerChain,
    make_genesis,
    settle_round,
)
from tests.support.posted import BUDGET, make_task, post_task, register_data

FIRST_PAYMENT = PARAMETERS.first_price * SEGMENT_MACS // PRICE_UNIT_MACS


def total_pot(rounds: int) -> int:
    return sum(compute_subsidy_split(height, PARAMETERS).pot for height in range(1, 9 * rounds + 1))


def decided(chain_effects: tuple[object, ...]) -> list[RewardDecided]:
    return [event for event in chain_effects if isinstance(event, RewardDecided)]


def test_rewards_unlock_when_the_tickets_segment_settles() -> None:
    chain = LedgerChain()
    effects = settle_round(chain, ALICE, BOB, miner=ALICE)
    rewards = decided(effects.events)
    assert [reward.height for reward in rewards] == list(range(1, 10))
    assert all(reward.is_paid for reward in rewards)
    earned = sum(compute_subsidy_split(height, PARAMETERS).reward for height in range(1, 10))
    assert chain.account(ALICE).balance == FUNDS + earned + FIRST_PAYMENT
    assert chain.account(BOB).balance == FUNDS + FIRST_PAYMENT
    assert chain.view.get(locked_reward_key(1)) is None


def test_rewards_of_a_segment_that_never_settles_burn_with_the_fees_in_them() -> None:
    chain = LedgerChain()
    chain.mine(chain.sign(DAVE, Transfer(BOB.public_key, 1), fee=1_000), miner=CAROL)
    locked = chain.view.get_existing(locked_reward_key(1))
    assert locked.amount == compute_subsidy_split(1, PARAMETERS).reward + 1_000
    chain.mine_to(9, miner=CAROL)
    earned = sum(compute_subsidy_split(height, PARAMETERS).reward for height in range(1, 10))
    assert chain.view.get_existing(SUPPLY_KEY).burned == earned + 1_000
    assert chain.account(CAROL).balance == FUNDS


@pytest.mark.parametrize(
    "change",
    [{"root_a": Hash(b"x" * 32)}, {"root_b": Hash(b"x" * 32)}, {"step": 4}, {"op": 2}, {"step": STEPS}, {"index": 1}],
)
def test_a_ticket_that_the_settled_trace_does_not_show_is_not_paid(change: dict[str, Any]) -> None:
    chain = LedgerChain()
    ticket = replace(chain.ticket(BOB), **change)
    chain.mine(chain.sign(BOB, chain.commit(BOB)), miner=BOB, ticket=ticket)
    chain.mine_to(3, miner=BOB)
    chain.mine(chain.sign(BOB, chain.prove(BOB)), miner=BOB)
    chain.mine_to(8, miner=BOB)
    paid = [reward.is_paid for reward in decided(chain.mine(miner=BOB).events)]
    assert paid == [False] + [True] * 8


def test_a_ticket_under_another_anchor_is_not_paid() -> None:
    chain = LedgerChain()
    chain.mine(miner=BOB)
    chain.mine(chain.sign(BOB, chain.commit(BOB, anchor=1)), miner=BOB, ticket=chain.ticket(BOB, anchor=1))
    chain.mine_to(4, miner=BOB)
    chain.mine(chain.sign(BOB, chain.prove(BOB)), miner=BOB)
    chain.mine_to(8, miner=BOB)
    rewards = decided(chain.mine(miner=BOB).events)
    assert [reward.height for reward in rewards if reward.is_paid] == [2]


def test_a_ticket_with_the_settled_roots_but_another_anchor_is_not_paid() -> None:
    chain = LedgerChain()
    chain.mine(miner=BOB)
    chain.mine(
        chain.sign(BOB, chain.commit(BOB)), miner=BOB, ticket=replace(chain.ticket(BOB, anchor=0), anchor_height=1)
    )
    chain.mine_to(4, miner=BOB)
    chain.mine(chain.sign(BOB, chain.prove(BOB)), miner=BOB)
    chain.mine_to(8, miner=BOB)
    rewards = decided(chain.mine(miner=BOB).events)
    assert [reward.height for reward in rewards if not reward.is_paid] == [2]


def test_a_slashed_segment_unlocks_nothing_though_its_trace_shows_the_ticket() -> None:
    chain = LedgerChain()
    flawed = chain.training.make_sidecar(chain.segment(BOB), flaw=bytes(32))
    root_a, root_b = chain.training.compute_operand_roots(TASK, chain.task.checkpoint_root, flawed, 3, 1)
    ticket = replace(chain.ticket(BOB), root_a=root_a, root_b=root_b)
    chain.mine(chain.sign(BOB, chain.commit(BOB, sidecar=flawed)), miner=BOB, ticket=ticket)
    chain.mine_to(3, miner=BOB)
    chain.mine(chain.sign(BOB, chain.prove(BOB)), chain.sign(DAVE, chain.demand(BOB)), miner=BOB)
    chain.mine_to(8, miner=BOB)
    assert not any(reward.is_paid for reward in decided(chain.mine(miner=BOB).events))
    assert chain.account(BOB).balance == FUNDS - PARAMETERS.deposit


def test_an_empty_round_keeps_its_checkpoint_and_carries_its_pot_over() -> None:
    chain = LedgerChain()
    start = chain.task.checkpoint_root
    chain.mine_to(8)
    assert chain.mine().settlement is None
    assert (chain.task.pot, chain.task.checkpoint_root, chain.task.round) == (total_pot(1), start, 1)
    assert chain.task.price == PARAMETERS.first_price, "no work says nothing about worth"
    settle_round(chain, BOB)
    assert chain.account(BOB).balance == FUNDS + FIRST_PAYMENT
    assert chain.task.pot == total_pot(2) - FIRST_PAYMENT


def test_threat_60_whoever_is_kept_out_nobody_else_is_paid_more() -> None:
    """Two contribute, and where one of them is kept out of the round the other earns what it would have earned."""
    together, alone = LedgerChain(), LedgerChain()
    settle_round(together, ALICE, BOB)
    settle_round(alone, ALICE)
    assert alone.account(ALICE) == together.account(ALICE)
    kept = alone.task.pot - together.task.pot
    assert kept == FIRST_PAYMENT, "what the other would have earned waits for the next round"


def test_a_pot_that_is_too_small_is_shared_and_the_rest_of_the_division_stays() -> None:
    dear = replace(PARAMETERS, first_price=PARAMETERS.first_price * 8)
    chain = LedgerChain(make_genesis(dear))
    effects = settle_round(chain, ALICE, BOB, CAROL)
    assert chain.task.pot == total_pot(1) % 3
    assert chain.account(BOB).balance == FUNDS + total_pot(1) // 3
    assert chain.task.price == dear.first_price - dear.first_price // 8
    ended = [event for event in effects.events if isinstance(event, RoundEnded)]
    assert [len(event.contributors) for event in ended] == [3]


def test_checkpoints_of_all_rounds_stand_in_state() -> None:
    chain = LedgerChain()
    roots = [settle_round(chain, BOB, CAROL).settlement for _ in range(3)]
    for number, settlement in enumerate(roots):
        assert settlement is not None
        record = chain.view.get_existing(checkpoint_key(chain.context.task_id, number))
        assert (record.checkpoint_root, record.height) == (settlement.checkpoint_root, 9 * number + 9)
        assert (record.heldout_loss, record.heldout_correct, record.heldout_total) == (10_000, 2, 10)
        assert record.contributors == 2
    assert chain.task.settled_contributions == 6
    assert len({record.checkpoint_root for record in roots if record}) == 3


def test_the_subsidy_halves_smoothly() -> None:
    half_life = PARAMETERS.subsidy_half_life
    assert compute_subsidy(1, PARAMETERS) == PARAMETERS.subsidy
    for halvings in range(1, 8):
        assert compute_subsidy(1 + halvings * half_life, PARAMETERS) == PARAMETERS.subsidy >> halvings
    middle = compute_subsidy(1 + half_life // 2, PARAMETERS)
    assert abs(middle * middle * 2 - PARAMETERS.subsidy**2) * 2_000 < PARAMETERS.subsidy**2
    assert compute_subsidy(1 + 200 * half_life, PARAMETERS) == 0


@given(st.integers(1, 2**40), st.integers(1, 2**40), st.integers(1, 2**32 - 1), st.integers(0, 2**40))
def test_the_subsidy_never_rises_and_its_split_is_whole(first: int, second: int, half_life: int, subsidy: int) -> None:
    parameters = Parameters(subsidy=subsidy, subsidy_half_life=half_life)
    low, high = sorted((first, second))
    assert compute_subsidy(low, parameters) >= compute_subsidy(high, parameters)
    split = compute_subsidy_split(low, parameters)
    assert split.reward + split.pot + split.treasury == compute_subsidy(low, parameters)
    assert split.reward == split.pot <= 2 * compute_subsidy(low, parameters) // 4
    assert split.treasury * 10 >= compute_subsidy(low, parameters)


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_issuance_stays_below_its_bound(half_life: int, subsidy: int) -> None:
    parameters = Parameters(subsidy=subsidy, subsidy_half_life=half_life)
    issued = sum(compute_subsidy(height, parameters) for height in range(1, 24 * half_life))
    assert issued <= compute_issuance_bound(parameters)


def test_segments_that_are_held_together_take_no_more_than_a_round_may_spend() -> None:
    """Else miners who dispute each other's segments would empty a pot whose price is above what a round may spend."""
    chain = LedgerChain()
    post_task(chain, make_task(chain, register_data(chain), price=1 << 60))
    chain.mine_to(9)
    miners = (ALICE, BOB, CAROL)
    chain.mine(*(chain.sign(key, chain.commit(key)) for key in miners))
    chain.mine_to(12)
    chain.mine(*(chain.sign(key, chain.prove(key)) for key in miners))
    chain.mine_to(17)
    nonce = chain.account(DAVE).nonce
    opening = DemandOpening(0, 0, 0)
    chain.mine(*(chain.sign(DAVE, chain.demand(key, opening), nonce=nonce + i) for i, key in enumerate(miners)))
    assert (chain.state.held, chain.state.start_height, chain.state.pot) == (3, 18, BUDGET - RENT)
    chain.mine(*(chain.sign(key, chain.answer(key, DAVE, 1)) for key in miners))
    rewards = [chain.contribution(key, 0, 1).reward for key in miners]
    assert min(rewards) > 0
    # Three rounds are left until height 45.
    assert sum(rewards) <= (BUDGET - RENT) // 3
