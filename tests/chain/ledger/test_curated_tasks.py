"""Votes that give posted tasks a part of the subsidy: what they get, the bounds, and where it goes at the end."""

from dataclasses import replace

import pytest

from chain.errors import InvalidBlock
from chain.ledger.governance_records import ProposalStatus
from chain.ledger.keys import funding_key, task_key
from chain.ledger.posted_tasks import BUDGET_MIN
from chain.ledger.subsidy import compute_subsidy_split
from chain.ledger.supply import compute_holdings
from chain.ledger.task_pots import RENT, SHARE_BP_MAX, SHARES_BP_MAX
from chain.primitives import ZERO_HASH, Hash
from chain.transaction import CastVote, ProposeChange, SubsidiseTask
from tests.support.governance import accept, get_proposal, lock, propose
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, PARAMETERS, LedgerChain, make_genesis
from tests.support.posted import make_task, post_task, register_data

QUICK = replace(PARAMETERS, voting_blocks=2, enactment_blocks=1)


def make_chain(tasks: int = 1, last_height: int = 900) -> tuple[LedgerChain, list[Hash]]:
    """Return a chain on which Carol decides alone, with live tasks of Bob's."""
    chain = LedgerChain(make_genesis(QUICK))
    lock(chain, CAROL, 900)
    dataset = register_data(chain, ALICE)
    terms = [make_task(chain, dataset, number, budget=BUDGET_MIN, last_height=last_height) for number in range(tasks)]
    return chain, [post_task(chain, each, BOB) for each in terms]


def refuse(chain: LedgerChain, change: SubsidiseTask) -> str:
    with pytest.raises(InvalidBlock) as refused:
        chain.execute(chain.draft(), chain.sign(CAROL, ProposeChange("a share", change)))
    return refused.value.rule


def test_a_vote_gives_a_task_its_part_of_what_blocks_issue_for_contributions() -> None:
    chain, (name,) = make_chain()
    accept(chain, CAROL, SubsidiseTask(name, 1_500))
    before, posted = chain.task.pot, chain.view.get_existing(task_key(name)).pot
    chain.mine()
    issued = compute_subsidy_split(chain.height, QUICK).pot
    part = issued * 1_500 // 10_000
    assert chain.view.get_existing(task_key(name)).pot - posted == part > 0
    assert chain.task.pot - before == issued - part
    assert chain.view.get_existing(funding_key(name)).subsidy == part


def test_no_vote_takes_more_than_the_bounds_from_the_task_of_genesis() -> None:
    chain, names = make_chain(3)
    assert refuse(chain, SubsidiseTask(names[0], SHARE_BP_MAX + 1)) == "share-bounds"
    assert refuse(chain, SubsidiseTask(chain.context.task_id, 100)) == "share-task"
    assert refuse(chain, SubsidiseTask(ZERO_HASH, 100)) == "share-task"
    assert refuse(chain, SubsidiseTask(names[0], 0)) == "share-same"
    for name in names[:2]:
        accept(chain, CAROL, SubsidiseTask(name, SHARE_BP_MAX))
    left = SHARES_BP_MAX - 2 * SHARE_BP_MAX
    assert refuse(chain, SubsidiseTask(names[2], left + 1)) == "share-total"
    accept(chain, CAROL, SubsidiseTask(names[2], left))
    before = chain.task.pot
    chain.mine()
    assert chain.task.pot - before >= compute_subsidy_split(chain.height, QUICK).pot // 2


def test_what_is_left_of_the_subsidy_goes_to_the_treasury_and_a_share_ends_with_its_task() -> None:
    chain, (name,) = make_chain(last_height=27)
    accept(chain, CAROL, SubsidiseTask(name, SHARE_BP_MAX))
    assert chain.height < 26
    chain.mine_to(26)
    funding, pot = chain.view.get_existing(funding_key(name)), chain.state.pot
    treasury, balance = compute_holdings(chain.view).treasury, chain.account(BOB).balance
    chain.mine()
    split = compute_subsidy_split(27, QUICK)
    subsidy = funding.subsidy + split.pot * SHARE_BP_MAX // 10_000
    left = pot + subsidy - funding.subsidy - RENT
    back = left * BUDGET_MIN // (BUDGET_MIN + subsidy)
    assert chain.account(BOB).balance - balance == back
    assert compute_holdings(chain.view).treasury - treasury == split.treasury + RENT + left - back
    assert left - back > RENT
    before = chain.task.pot
    chain.mine()
    assert chain.task.pot - before == compute_subsidy_split(28, QUICK).pot


def test_a_share_of_a_task_that_has_closed_meanwhile_lapses() -> None:
    chain, (name,) = make_chain(last_height=18)
    chain.mine_to(14)
    proposal = propose(chain, CAROL, SubsidiseTask(name, 100))
    chain.mine(chain.sign(CAROL, CastVote(proposal, 1)))
    chain.mine_to(27)
    assert get_proposal(chain, proposal).status is ProposalStatus.LAPSED


def test_who_decides_alone_here_is_carol() -> None:
    chain, (name,) = make_chain()
    proposal = propose(chain, DAVE, SubsidiseTask(name, 100))
    chain.mine_to(27)
    assert get_proposal(chain, proposal).status is ProposalStatus.EXPIRED
