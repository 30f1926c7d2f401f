"""Bounties: paid as income when the mark is reached, returned when their height has passed, few and worth something."""

from dataclasses import replace

import pytest

from chain.errors import InvalidBlock
from chain.ledger import bounties
from chain.ledger.bounties import BOUNTY_MIN, SPAN_MAX, compute_bounty_id
from chain.ledger.context import BountyDecided, BountyOutcome, Event
from chain.ledger.keys import bounty_key, open_bounties_key
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import PostBounty
from tests.support.economy import get_model, get_shares
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, LedgerChain, settle_round

AMOUNT = 10 * 10**9


def make_bounty(chain: LedgerChain, correct_min: int = 2, last_height: int = 100, amount: int = AMOUNT) -> PostBounty:
    return PostBounty(chain.context.task_id, amount, correct_min, last_height)


def refuse(chain: LedgerChain, key: SigningKey, terms: PostBounty) -> str:
    with pytest.raises(InvalidBlock) as refused:
        chain.execute(chain.draft(), chain.sign(key, terms))
    return refused.value.rule


def find_decided(events: tuple[Event, ...]) -> list[BountyDecided]:
    return [event for event in events if isinstance(event, BountyDecided)]


def test_a_bounty_is_the_shareholders_once_the_mark_is_reached() -> None:
    chain = LedgerChain()
    settle_round(chain, ALICE)
    terms = make_bounty(chain)
    name = compute_bounty_id(chain.context.chain_id, DAVE.public_key, terms)
    start = chain.task.start_height
    chain.mine(*(chain.sign(key, chain.commit(key)) for key in (ALICE, BOB)), chain.sign(DAVE, terms))
    assert chain.account(DAVE).balance == FUNDS - AMOUNT
    chain.mine_to(start + 3)
    chain.mine(*(chain.sign(key, chain.prove(key)) for key in (ALICE, BOB)))
    chain.mine_to(start + 8)
    treasury_before = chain.view.get_existing(bounty_key(name)).terms.amount * 100 // 10_000
    effects = chain.mine()
    assert find_decided(effects.events) == [BountyDecided(name, BountyOutcome.PAID, AMOUNT)]
    assert chain.view.get(bounty_key(name)) is None
    assert chain.view.get(open_bounties_key(chain.context.task_id)) is None
    # Alice has settled two of three segments; a hundredth is the treasury's.
    model = get_model(chain, chain.context.task_id)
    assert model.held == AMOUNT - treasury_before
    earned = [get_shares(chain, chain.context.task_id, key.public_key).earned for key in (ALICE, BOB)]
    assert [atoms + 1 for atoms in earned] == [model.held * 2 // 3, model.held // 3], "each keeps part of an atom"


def test_a_round_that_stays_below_the_mark_pays_nothing_and_the_height_returns_it() -> None:
    chain = LedgerChain()
    chain.mine(chain.sign(DAVE, make_bounty(chain, correct_min=2, last_height=9)))
    chain.mine_to(8)
    assert not find_decided(chain.mine().events)
    chain.mine_to(17)
    (decided,) = find_decided(chain.mine().events)
    assert decided.outcome is BountyOutcome.RETURNED
    assert chain.account(DAVE).balance == FUNDS


def test_threat_42_a_bounty_is_released_by_the_last_round_that_may_reach_it_and_its_mark_cannot_move() -> None:
    chain = LedgerChain()
    terms = make_bounty(chain, correct_min=1, last_height=9)
    chain.mine(chain.sign(DAVE, terms), chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(3)
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    chain.mine_to(8)
    (decided,) = find_decided(chain.mine().events)
    assert (chain.height, decided.outcome) == (9, BountyOutcome.PAID)
    # The mark is a number of the task's own held-out records, signed with the bounty: no action names it again.
    assert refuse(chain, DAVE, replace(terms, last_height=100)) == "bounty-reached"


def test_what_could_not_be_paid_or_says_nothing_is_refused() -> None:
    chain = LedgerChain()
    assert refuse(chain, DAVE, make_bounty(chain, amount=BOUNTY_MIN - 1)) == "bounty-amount"
    assert refuse(chain, DAVE, make_bounty(chain, correct_min=0)) == "bounty-mark"
    assert refuse(chain, DAVE, make_bounty(chain, last_height=1)) == "bounty-height"
    assert refuse(chain, DAVE, make_bounty(chain, last_height=SPAN_MAX + 2)) == "bounty-height"
    assert refuse(chain, DAVE, replace(make_bounty(chain), task=Hash(bytes(32)))) == "task"
    assert refuse(chain, DAVE, make_bounty(chain, amount=FUNDS + 1)) == "balance"
    chain.mine(chain.sign(DAVE, make_bounty(chain)))
    assert refuse(chain, DAVE, make_bounty(chain)) == "bounty-known"


def test_a_full_house_makes_room_for_a_larger_one_and_sends_the_smallest_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounties, "OPEN_BOUNTIES_MAX", 2)
    chain = LedgerChain()
    chain.mine(
        chain.sign(BOB, make_bounty(chain, amount=AMOUNT)), chain.sign(CAROL, make_bounty(chain, amount=AMOUNT + 1))
    )
    assert refuse(chain, DAVE, make_bounty(chain, amount=AMOUNT)) == "bounty-full"
    (decided,) = find_decided(chain.mine(chain.sign(DAVE, make_bounty(chain, amount=AMOUNT + 2))).events)
    assert decided.outcome is BountyOutcome.DISPLACED
    assert chain.account(BOB).balance == FUNDS
    names = chain.view.get_existing(open_bounties_key(chain.context.task_id)).names
    assert [chain.view.get_existing(bounty_key(name)).poster for name in names] == [CAROL.public_key, DAVE.public_key]
