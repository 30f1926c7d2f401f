"""Disputes: who has the turn, what silence costs, what is held while one is open, and that honesty never loses."""

from dataclasses import replace

import pytest

from chain.dispute import Demand, DemandDigests, DemandOpening, DemandStrip
from chain.errors import InvalidBlock
from chain.genesis import Parameters
from chain.ledger import disputes
from chain.ledger.context import ContributionChanged, DisputeDecided, DisputeOutcome, Event, RewardDecided
from chain.ledger.keys import SUPPLY_KEY
from chain.ledger.tasks import get_live_names
from chain.ledger.transition import ContributionStatus as S
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import Action
from node.database.exporting import get_needed_blobs
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, PARAMETERS, LedgerChain, make_genesis, settle_round
from tests.support.posted import make_task, post_task, register_data

DEPOSIT, HALF = PARAMETERS.deposit, PARAMETERS.deposit // 2
WINDOW = PARAMETERS.dispute_window
OPENING = DemandOpening(0, 0, 0)


def commit_flawed(chain: LedgerChain, *, is_flawed: bool = True) -> None:
    """Put a segment of Bob's into the next block, by default one that openings do not betray."""
    flaw = bytes(32) if is_flawed else b""
    sidecar = chain.training.make_sidecar(chain.segment(BOB), flaw=flaw)
    chain.mine(chain.sign(BOB, chain.commit(BOB, sidecar=sidecar)))


def make_proven(*, is_flawed: bool = True) -> LedgerChain:
    """Return a chain in whose first, long round Bob's segment is proven."""
    chain = LedgerChain(make_genesis(Parameters(audit_blocks=12)))
    commit_flawed(chain, is_flawed=is_flawed)
    chain.mine_to(3)
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    return chain


def refuse(chain: LedgerChain, key: SigningKey, action: Action) -> str:
    with pytest.raises(InvalidBlock) as refused:
        chain.execute(chain.draft(), chain.sign(key, action))
    return refused.value.rule


def find_outcomes(events: tuple[Event, ...]) -> list[DisputeOutcome]:
    return [event.outcome for event in events if isinstance(event, DisputeDecided)]


def get_burned(chain: LedgerChain) -> int:
    return chain.view.get_existing(SUPPLY_KEY).burned


def test_silence_loses_the_deposit_half_of_it_to_the_challenger() -> None:
    chain = LedgerChain()
    commit_flawed(chain)
    chain.mine(chain.sign(DAVE, chain.demand(BOB)))
    assert chain.account(DAVE).balance == FUNDS - DEPOSIT
    for _ in range(WINDOW - 1):
        assert not find_outcomes(chain.mine().events)
    effects = chain.mine()
    assert find_outcomes(effects.events) == [DisputeOutcome.WON]
    assert chain.dispute(BOB, DAVE) is None
    slashed = chain.contribution(BOB)
    assert (slashed.status, slashed.deposit, slashed.disputes) == (S.SLASHED, 0, 0)
    assert chain.account(DAVE).balance == FUNDS + HALF
    assert get_burned(chain) == DEPOSIT - HALF


@pytest.mark.parametrize("demands", [[DemandDigests(0), DemandStrip(0, 1), OPENING], [DemandDigests(1), OPENING]])
def test_an_honest_segment_answers_everything_and_is_paid_for_it(demands: list[Demand]) -> None:
    chain = make_proven(is_flawed=False)
    for number, demand in enumerate(demands):
        chain.mine(chain.sign(DAVE, chain.demand(BOB, demand, deposit=None if number == 0 else 0)))
        effects = chain.mine(chain.sign(BOB, chain.answer(BOB, DAVE)))
    assert find_outcomes(effects.events) == [DisputeOutcome.REFUSED]
    assert chain.account(DAVE).balance == FUNDS - DEPOSIT
    assert chain.account(BOB).balance == FUNDS - DEPOSIT + HALF
    assert (chain.contribution(BOB).disputes, get_burned(chain)) == (0, DEPOSIT - HALF)


def test_a_flawed_segment_can_show_all_but_that_its_op_holds() -> None:
    chain = make_proven()
    for demand in (DemandDigests(0), DemandStrip(0, 0)):
        chain.mine(chain.sign(DAVE, chain.demand(BOB, demand, deposit=DEPOSIT if demand == DemandDigests(0) else 0)))
        chain.mine(chain.sign(BOB, chain.answer(BOB, DAVE)))
    chain.mine(chain.sign(DAVE, chain.demand(BOB, OPENING, deposit=0)))
    assert refuse(chain, BOB, chain.answer(BOB, DAVE)) == "op-test"
    chain.mine_to(chain.height + WINDOW - 1)
    assert find_outcomes(chain.mine().events) == [DisputeOutcome.WON]
    assert chain.account(DAVE).balance == FUNDS + HALF


def test_anybody_who_has_what_was_demanded_may_answer_in_the_miners_place() -> None:
    chain = make_proven(is_flawed=False)
    chain.mine(chain.sign(DAVE, chain.demand(BOB, OPENING)))
    chain.mine(chain.sign(CAROL, chain.answer(BOB, DAVE)))
    assert chain.dispute(BOB, DAVE) is None
    assert chain.account(BOB).balance == FUNDS - DEPOSIT + HALF, "what the challenger lost is the miner's still"
    assert chain.account(CAROL).balance == FUNDS


def test_nobody_can_answer_for_a_flawed_segment() -> None:
    chain = make_proven()
    chain.mine(chain.sign(DAVE, chain.demand(BOB, OPENING)))
    assert refuse(chain, CAROL, chain.answer(BOB, DAVE)) == "op-test"


def test_a_challenger_who_falls_silent_loses() -> None:
    chain = make_proven()
    chain.mine(chain.sign(DAVE, chain.demand(BOB)))
    chain.mine(chain.sign(BOB, chain.answer(BOB, DAVE)))
    chain.mine_to(chain.height + WINDOW - 1)
    assert find_outcomes(chain.mine().events) == [DisputeOutcome.REFUSED]
    assert chain.account(DAVE).balance == FUNDS - DEPOSIT


def test_turns_leaf_order_and_deposit_are_kept_to() -> None:
    chain = LedgerChain()
    commit_flawed(chain)
    assert refuse(chain, DAVE, chain.demand(CAROL)) == "dispute-contribution"
    assert refuse(chain, DAVE, chain.demand(BOB, deposit=DEPOSIT - 1)) == "dispute-deposit"
    assert refuse(chain, DAVE, replace(chain.demand(BOB), sidecar_hash=Hash(bytes(32)))) == "dispute-segment"
    assert refuse(chain, DAVE, replace(chain.demand(BOB), step=64)) == "demand-step"
    assert refuse(chain, DAVE, replace(chain.demand(BOB), task=Hash(bytes(32)))) == "task"
    chain.mine(chain.sign(DAVE, chain.demand(BOB, DemandStrip(0, 0))))
    assert refuse(chain, DAVE, chain.demand(BOB, OPENING, deposit=0)) == "dispute-turn"
    answer = chain.answer(BOB, DAVE)
    assert refuse(chain, BOB, replace(answer, answer=b"other")) == "answer"
    assert refuse(chain, BOB, replace(answer, challenger=ALICE.public_key)) == "dispute-unknown"
    assert refuse(chain, BOB, replace(answer, miner=CAROL.public_key)) == "dispute-contribution"
    chain.mine(chain.sign(BOB, answer))
    assert refuse(chain, BOB, answer) == "dispute-turn"
    assert refuse(chain, DAVE, chain.demand(BOB, DemandDigests(0), deposit=0)) == "dispute-order"
    assert refuse(chain, DAVE, chain.demand(BOB, OPENING)) == "dispute-deposit"
    assert refuse(chain, DAVE, replace(chain.demand(BOB, OPENING, deposit=0), op=2)) == "dispute-leaf"


def test_threat_27_late_duplicate_and_false_disputes_are_refused_or_lose() -> None:
    chain = LedgerChain()
    settle_round(chain, BOB)
    late = chain.demand(BOB, round_number=0)
    assert refuse(chain, DAVE, late) == "dispute-status"
    chain = make_proven(is_flawed=False)
    chain.mine(chain.sign(DAVE, chain.demand(BOB)))
    assert refuse(chain, DAVE, chain.demand(BOB)) == "dispute-turn"
    chain.mine(chain.sign(BOB, chain.answer(BOB, DAVE)))
    chain.mine_to(chain.height + WINDOW)
    assert chain.account(DAVE).balance == FUNDS - DEPOSIT


def test_threat_61_false_disputes_neither_shield_a_forged_segment_nor_cost_an_honest_one() -> None:
    chain = make_proven()
    accomplices = (ALICE, CAROL)
    chain.mine(*(chain.sign(key, chain.demand(BOB)) for key in accomplices))
    chain.mine(
        *(chain.sign(BOB, chain.answer(BOB, key), nonce=2 + i) for i, key in enumerate(accomplices)),
        chain.sign(DAVE, chain.demand(BOB, OPENING)),
    )
    chain.mine_to(chain.height + WINDOW - 1)
    # In one block the accomplices fall silent and Dave goes unanswered; all three began in time.
    outcomes = find_outcomes(chain.mine().events)
    assert sorted(outcomes) == [DisputeOutcome.REFUSED, DisputeOutcome.REFUSED, DisputeOutcome.WON]
    assert chain.contribution(BOB).status is S.SLASHED
    assert chain.account(DAVE).balance == FUNDS + HALF


def test_what_falls_by_something_else_gives_challengers_their_deposit_back() -> None:
    chain = LedgerChain()
    commit_flawed(chain)
    chain.mine_to(3)
    chain.mine(chain.sign(DAVE, chain.demand(BOB)))
    chain.mine(chain.sign(BOB, chain.answer(BOB, DAVE)))
    assert chain.contribution(BOB).status is S.EXPIRED
    assert refuse(chain, DAVE, chain.demand(BOB, OPENING, deposit=0)) == "dispute-status"
    chain.mine_to(chain.height + WINDOW - 1)
    assert find_outcomes(chain.mine().events) == [DisputeOutcome.MOOT]
    assert chain.account(DAVE).balance == FUNDS


def test_two_challengers_of_one_forged_segment_one_is_paid_and_the_other_refunded() -> None:
    chain = LedgerChain()
    commit_flawed(chain)
    chain.mine(chain.sign(DAVE, chain.demand(BOB)), chain.sign(CAROL, chain.demand(BOB)))
    chain.mine_to(chain.height + WINDOW - 1)
    assert find_outcomes(chain.mine().events) == [DisputeOutcome.WON, DisputeOutcome.MOOT]
    assert (chain.account(DAVE).balance, chain.account(CAROL).balance) == (FUNDS + HALF, FUNDS)


def hold(*, is_flawed: bool) -> LedgerChain:
    """Return a chain whose first round ended while Bob's segment was disputed; Carol's settled, Bob mined block 2."""
    chain = LedgerChain()
    flawed = chain.training.make_sidecar(chain.segment(BOB), flaw=bytes(32) if is_flawed else b"")
    roots = chain.training.compute_operand_roots(chain.genesis.task, chain.task.checkpoint_root, flawed, 3, 1)
    ticket = replace(chain.ticket(BOB), root_a=roots[0], root_b=roots[1])
    chain.mine(chain.sign(BOB, chain.commit(BOB, sidecar=flawed)), chain.sign(CAROL, chain.commit(CAROL)))
    chain.mine(miner=BOB, ticket=ticket)
    chain.mine_to(3)
    chain.mine(*(chain.sign(key, chain.prove(key)) for key in (BOB, CAROL)))
    chain.mine_to(8)
    chain.mine(chain.sign(DAVE, chain.demand(BOB, OPENING)))
    return chain


def test_a_round_waits_for_no_dispute_and_holds_what_is_disputed() -> None:
    chain = hold(is_flawed=False)
    assert (chain.task.round, chain.task.heldout_correct) == (1, 1), "Carol's delta alone"
    held = chain.contribution(BOB, round_number=0)
    assert (held.status, held.deposit, held.reward) == (S.HELD, DEPOSIT, 0)
    assert refuse(chain, ALICE, chain.demand(BOB, round_number=0)) == "dispute-late"


def test_whoever_starts_from_a_state_needs_what_a_held_segment_shows() -> None:
    chain = hold(is_flawed=False)
    needed = get_needed_blobs(chain.context, chain.view)
    assert {chain.contribution(BOB, round_number=0).sidecar_hash, chain.genesis.task.checkpoint_root} <= set(needed)
    chain.mine(chain.sign(BOB, chain.answer(BOB, DAVE, round_number=0)))
    assert get_needed_blobs(chain.context, chain.view) == (chain.task.checkpoint_root,)


def test_a_held_segment_that_is_cleared_is_paid_with_its_locked_rewards() -> None:
    chain = hold(is_flawed=False)
    price, pot, before = chain.task.price, chain.task.pot, chain.account(BOB).balance
    effects = chain.mine(chain.sign(BOB, chain.answer(BOB, DAVE, round_number=0)))
    settled = chain.contribution(BOB, round_number=0)
    assert (settled.status, settled.deposit, settled.disputes) == (S.SETTLED, 0, 0)
    assert settled.reward == price * settled.macs >> 40
    rewards = [event for event in effects.events if isinstance(event, RewardDecided)]
    assert [(reward.height, reward.is_paid) for reward in rewards] == [(2, True)]
    assert chain.account(BOB).balance == before + DEPOSIT + HALF + settled.reward + rewards[0].amount
    subsidy_to_pot = PARAMETERS.subsidy * 45 // 100
    assert abs(chain.task.pot - (pot - settled.reward + subsidy_to_pot)) < subsidy_to_pot // 100
    assert [e.status for e in effects.events if isinstance(e, ContributionChanged)] == [S.SETTLED]


def test_a_held_segment_that_falls_burns_its_locked_rewards() -> None:
    chain = hold(is_flawed=True)
    before = chain.account(BOB).balance
    chain.mine_to(chain.height + WINDOW - 1)
    effects = chain.mine()
    assert find_outcomes(effects.events) == [DisputeOutcome.WON]
    rewards = [event for event in effects.events if isinstance(event, RewardDecided)]
    assert [(reward.height, reward.is_paid) for reward in rewards] == [(2, False)]
    assert chain.contribution(BOB, round_number=0).status is S.SLASHED
    assert chain.account(BOB).balance == before


def test_a_block_begins_so_many_disputes_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disputes, "BEGUN_PER_BLOCK_MAX", 1)
    chain = LedgerChain()
    commit_flawed(chain)
    chain.mine(chain.sign(DAVE, chain.demand(BOB)))
    chain.mine(chain.sign(BOB, chain.answer(BOB, DAVE)))
    full = chain.draft(), chain.sign(CAROL, chain.demand(BOB)), chain.sign(ALICE, chain.demand(BOB))
    with pytest.raises(InvalidBlock) as refused:
        chain.execute(*full)
    assert refused.value.rule == "dispute-full"
    chain.mine(full[1])


def test_a_genesis_without_a_window_for_answers_is_refused() -> None:
    with pytest.raises(InvalidBlock) as refused:
        LedgerChain(make_genesis(Parameters(dispute_window=0)))
    assert refused.value.rule == "genesis-windows"


def test_disputes_keep_no_task_open_for_ever_behind_its_last_height() -> None:
    """What is left of its pot is its funders': whoever holds a segment of each round must not keep it from them."""
    chain = LedgerChain()
    name = post_task(chain, make_task(chain, register_data(chain), last_height=18))
    chain.mine_to(9)
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(12)
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    chain.mine_to(17)
    chain.mine(chain.sign(DAVE, chain.demand(BOB, OPENING)))
    assert chain.state.held == 1
    assert refuse(chain, BOB, chain.commit(BOB)) == "task-over"
    chain.mine(chain.sign(BOB, chain.answer(BOB, DAVE, 1)))
    assert get_live_names(chain.view) == (name,)
    chain.mine_to(27)
    assert get_live_names(chain.view) == ()
