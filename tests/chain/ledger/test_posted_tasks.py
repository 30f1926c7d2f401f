"""Posted tasks: entered as models, trained in everybody's rounds, paid from their pots, closed with nothing lost."""

from dataclasses import replace

import pytest

from chain.errors import InvalidBlock
from chain.hashing import tagged_hash
from chain.ledger import task_pots
from chain.ledger.context import Event, RoundEnded, TaskClosed
from chain.ledger.keys import content_key, funding_key, posted_task_key, task_key
from chain.ledger.posted_tasks import BUDGET_MIN, SPAN_MAX, compute_posted_task_id
from chain.ledger.supply import compute_holdings
from chain.ledger.task_pots import FUND_MIN, RENT
from chain.ledger.task_records import FUNDERS_MAX, LIVE_TASKS_MAX
from chain.ledger.tasks import get_live_names
from chain.ledger.transition import ContributionStatus
from chain.primitives import ATOMS_PER_COIN, ZERO_HASH
from chain.signature import SigningKey
from chain.transaction import Action, FundTask, PostBounty, PostTask, Sidecar, Transfer
from ml.dataset import compute_dataset_root
from tests.support.economy import get_model, get_shares
from tests.support.hash_training import SEGMENT_MACS
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, LedgerChain, settle_round
from tests.support.posted import BUDGET, make_task, mine_round, post_task, register_data


def refuse(chain: LedgerChain, key: SigningKey, action: Action) -> str:
    with pytest.raises(InvalidBlock) as refused:
        chain.execute(chain.draft(), chain.sign(key, action))
    return refused.value.rule


def find_closed(events: tuple[Event, ...]) -> list[TaskClosed]:
    return [event for event in events if isinstance(event, TaskClosed)]


def get_treasury(chain: LedgerChain) -> int:
    return compute_holdings(chain.view).treasury


def test_a_posted_task_is_a_model_with_a_pot_and_begins_with_the_next_round() -> None:
    chain = LedgerChain()
    dataset = register_data(chain)
    terms = make_task(chain, dataset, author_bp=100)
    name = post_task(chain, terms)
    assert chain.account(DAVE).balance == FUNDS - BUDGET
    model = get_model(chain, name)
    assert (model.owner, model.terms, model.units) == (DAVE.public_key, terms.model, 0)
    assert chain.view.get_existing(posted_task_key(name)).terms == terms
    assert chain.view.get_existing(content_key(terms.model.checkpoint_root)).name == name
    assert (chain.state.round, chain.state.start_height, chain.state.pot) == (1, 9, BUDGET)
    assert chain.state.checkpoint_root == terms.model.checkpoint_root
    assert refuse(chain, ALICE, replace(chain.commit(ALICE, anchor=2), round=0)) == "round"
    assert refuse(chain, ALICE, chain.commit(ALICE, anchor=2)) == "commit-window", "nobody trains before its round"


def test_two_tasks_train_in_the_same_round_each_from_its_own_pot_into_its_own_shares() -> None:
    chain = LedgerChain()
    name = post_task(chain, make_task(chain, register_data(chain)))
    chain.mine_to(9)
    genesis_pot, own = chain.task.pot, chain.trained
    both = [chain.sign(BOB, chain.commit(BOB)), chain.sign(CAROL, chain.commit(CAROL))]
    chain.trained = chain.context.task_id
    both += [chain.sign(BOB, chain.commit(BOB), nonce=chain.account(BOB).nonce + 1)]
    chain.mine(*both)
    chain.mine_to(12)
    proofs = [chain.sign(BOB, chain.prove(BOB))]
    chain.trained = own
    proofs += [
        chain.sign(BOB, chain.prove(BOB), nonce=chain.account(BOB).nonce + 1),
        chain.sign(CAROL, chain.prove(CAROL)),
    ]
    chain.mine(*proofs)
    chain.mine_to(17)
    effects = chain.mine()
    ended = [event for event in effects.events if isinstance(event, RoundEnded)]
    assert [(event.task, event.round, len(event.contributors)) for event in ended] == [
        (chain.context.task_id, 1, 1),
        (name, 1, 2),
    ]
    assert ended[0].settlement != ended[1].settlement
    # Four rounds are left until height 45: a quarter of the budget may go in this one, and a segment at one atom a MAC
    # takes far less.
    reward = chain.contribution(BOB, 0, 1).reward
    assert reward == SEGMENT_MACS
    assert chain.state.pot == BUDGET - 2 * SEGMENT_MACS - RENT
    assert get_shares(chain, name, BOB.public_key).units == SEGMENT_MACS
    assert get_model(chain, name).units == 2 * SEGMENT_MACS
    assert get_shares(chain, chain.context.task_id, CAROL.public_key).units == 0
    assert chain.task.pot > genesis_pot, "its blocks have filled it, and paid nothing of the other task"
    assert ended[1].settlement is not None
    assert chain.state.checkpoint_root == ended[1].settlement.checkpoint_root
    assert chain.view.get_existing(content_key(chain.state.checkpoint_root)).name == name


def test_contributions_of_two_tasks_leave_one_state_whatever_blocks_hold_them() -> None:
    roots = set()
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        chain = LedgerChain()
        name = post_task(chain, make_task(chain, register_data(chain)))
        chain.mine_to(9)
        actions = []
        for key, task in ((ALICE, chain.context.task_id), (BOB, name), (CAROL, name)):
            chain.trained = task
            actions.append((key, chain.commit(key)))
        chain.mine()
        chain.mine(*(chain.sign(*actions[place]) for place in order))
        chain.mine_to(13)
        proofs = []
        for key, task in ((ALICE, chain.context.task_id), (BOB, name), (CAROL, name)):
            chain.trained = task
            proofs.append((key, chain.prove(key)))
        chain.mine(*(chain.sign(*proofs[place]) for place in reversed(order)))
        chain.mine_to(18)
        roots.add(chain.root)
    assert len(roots) == 1


def test_its_price_spreads_the_budget_over_the_rounds_that_are_left() -> None:
    chain = LedgerChain()
    # An atom for 2^40 MACs pays nothing; the price rises by an eighth a round at most, one atom at least.
    post_task(chain, make_task(chain, register_data(chain), price=1))
    mine_round(chain, BOB)
    assert chain.state.price == 2
    assert chain.contribution(BOB, 0, 1).reward == 0
    # A price that no pot could pay is paid by what the round may spend.
    chain = LedgerChain()
    post_task(chain, make_task(chain, register_data(chain), price=1 << 60))
    mine_round(chain, BOB)
    assert chain.contribution(BOB, 0, 1).reward == BUDGET // 4
    assert chain.state.price == (1 << 60) - (1 << 57)


def test_what_is_left_goes_back_at_the_last_height_and_the_model_stays() -> None:
    chain = LedgerChain()
    terms = make_task(chain, register_data(chain), last_height=20)
    name = post_task(chain, terms)
    mine_round(chain, BOB)
    assert len(find_closed(mine_round(chain).events)) == 1
    assert get_live_names(chain.view) == ()
    assert chain.account(DAVE).balance == FUNDS - SEGMENT_MACS - 2 * RENT
    assert chain.view.get(funding_key(name)) is None
    assert chain.state.pot == 0
    assert get_shares(chain, name, BOB.public_key).units == SEGMENT_MACS
    assert refuse(chain, ALICE, chain.commit(ALICE)) == "task-closed"
    assert refuse(chain, ALICE, FundTask(name, FUND_MIN)) == "task-closed"
    assert refuse(chain, ALICE, PostBounty(name, 10**10, 5, 60)) == "task-closed"


def test_funders_get_their_parts_and_rounding_is_the_treasurys() -> None:
    chain = LedgerChain()
    name = post_task(chain, make_task(chain, register_data(chain), last_height=18, budget=BUDGET_MIN))
    chain.mine(chain.sign(CAROL, FundTask(name, 2 * FUND_MIN)), chain.sign(ALICE, FundTask(name, FUND_MIN)))
    chain.mine(chain.sign(ALICE, FundTask(name, FUND_MIN + 1)))
    assert [(each.account, each.amount) for each in chain.view.get_existing(funding_key(name)).funders] == sorted(
        [(DAVE.public_key, BUDGET_MIN), (CAROL.public_key, 2 * FUND_MIN), (ALICE.public_key, 2 * FUND_MIN + 1)]
    )
    given = BUDGET_MIN + 4 * FUND_MIN + 1
    assert chain.state.pot == given
    chain.mine_to(17)
    treasury = get_treasury(chain)
    (closed,) = find_closed(chain.mine().events)
    left = given - RENT
    assert closed == TaskClosed(name, left)
    parts = [left * amount // given for amount in (BUDGET_MIN, 2 * FUND_MIN, 2 * FUND_MIN + 1)]
    assert chain.account(DAVE).balance == FUNDS - BUDGET_MIN + parts[0]
    assert chain.account(CAROL).balance == FUNDS - 2 * FUND_MIN + parts[1]
    dust = left - sum(parts)
    assert dust > 0
    block_part = ATOMS_PER_COIN + 1
    assert 0 <= get_treasury(chain) - treasury - RENT - dust <= block_part


def test_an_empty_pot_closes_a_task() -> None:
    chain = LedgerChain()
    # Nobody trains, and the rent takes all of it.
    name = post_task(chain, make_task(chain, register_data(chain), budget=BUDGET_MIN, last_height=900, price=1))
    for _ in range(BUDGET_MIN // RENT - 1):
        assert find_closed(mine_round(chain).events) == []
    assert find_closed(mine_round(chain).events) == [TaskClosed(name, 0)]


def test_a_task_with_a_segment_under_dispute_closes_once_that_is_decided_and_paid() -> None:
    chain = LedgerChain()
    name = post_task(chain, make_task(chain, register_data(chain), last_height=18))
    chain.mine_to(9)
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(12)
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    chain.mine_to(16)
    chain.mine(chain.sign(CAROL, chain.demand(BOB)))
    effects = chain.mine()
    assert chain.contribution(BOB, 0, 1).status is ContributionStatus.HELD
    assert (find_closed(effects.events), chain.state.held) == ([], 1)
    chain.mine(chain.sign(BOB, chain.answer(BOB, CAROL, 1)))
    chain.mine_to(21)
    settled = chain.contribution(BOB, 0, 1)
    assert (settled.status, settled.reward) == (ContributionStatus.SETTLED, SEGMENT_MACS)
    assert chain.state.held == 0
    chain.mine_to(26)
    assert find_closed(chain.mine().events) == [TaskClosed(name, BUDGET - SEGMENT_MACS - 2 * RENT)]


def test_a_forged_segment_of_a_posted_task_is_slashed_like_any() -> None:
    chain = LedgerChain()
    post_task(chain, make_task(chain, register_data(chain), last_height=18))
    chain.mine_to(9)
    forged = chain.training.make_sidecar(chain.segment(BOB), b"flaw")
    chain.mine(chain.sign(BOB, chain.commit(BOB, sidecar=forged)))
    chain.mine_to(12)
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    chain.mine_to(16)
    chain.mine(chain.sign(CAROL, chain.demand(BOB)))
    chain.mine_to(19)
    slashed = chain.contribution(BOB, 0, 1)
    assert (slashed.status, slashed.reward, chain.state.held) == (ContributionStatus.SLASHED, 0, 0)
    assert get_model(chain, chain.trained).units == 0


def test_a_child_goes_on_from_where_its_parent_stands_and_owes_it_its_royalty() -> None:
    chain = LedgerChain()
    dataset = register_data(chain)
    chain.mine_to(9)
    settle_round(chain, BOB)
    terms = make_task(chain, dataset, last_height=60)
    child = replace(terms.model, parents=(chain.context.task_id,))
    assert refuse(chain, DAVE, replace(terms, model=child)) == "task-start"
    stands = replace(child, checkpoint_root=chain.task.checkpoint_root)
    name = post_task(chain, replace(terms, model=stands))
    assert get_model(chain, name).depth == 1
    assert chain.view.get_existing(content_key(stands.checkpoint_root)).name == chain.context.task_id
    mine_round(chain, CAROL)
    assert chain.view.get_existing(content_key(chain.state.checkpoint_root)).name == name


def test_bounties_of_a_task_are_paid_and_returned_with_it() -> None:
    chain = LedgerChain()
    name = post_task(chain, make_task(chain, register_data(chain), last_height=27))
    chain.mine(chain.sign(ALICE, PostBounty(name, 10**10, 1, 90)), chain.sign(BOB, PostBounty(name, 10**10, 2, 90)))
    mine_round(chain, BOB)
    assert get_model(chain, name).held == 10**10 * 99 // 100
    mine_round(chain)
    assert get_live_names(chain.view) == ()
    assert chain.account(ALICE).balance < FUNDS
    assert compute_holdings(chain.view).deposits == 0, "the second went back when the task closed"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"budget": BUDGET_MIN - 1}, "task-budget"),
        ({"price": 0}, "task-price"),
        ({"program": b"other"}, "task-spec"),
        ({"last_height": 17}, "task-height"),
        ({"last_height": SPAN_MAX + 3}, "task-height"),
        ({"budget": FUNDS + 1}, "balance"),
    ],
)
def test_terms_out_of_bounds_are_refused(change: dict[str, int | bytes], rule: str) -> None:
    chain = LedgerChain()
    terms = make_task(chain, register_data(chain))
    assert refuse(chain, DAVE, replace(terms, **change)) == rule  # type: ignore[arg-type]  # a field each


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"name": ""}, "model-name"),
        ({"licence": "AGPL 3"}, "licence"),
        ({"datasets": ()}, "task-dataset"),
        ({"datasets": (ZERO_HASH,)}, "dataset-unknown"),
        ({"author_bp": 9_901}, "income-parts"),
        ({"checkpoint_root": tagged_hash("test.other")}, "task-checkpoint"),
        ({"parents": (ZERO_HASH,)}, "task-parent"),
    ],
)
def test_models_that_cannot_be_are_refused(change: dict[str, object], rule: str) -> None:
    chain = LedgerChain()
    terms = make_task(chain, register_data(chain))
    model = replace(terms.model, **change)  # type: ignore[arg-type]  # a field each
    assert refuse(chain, DAVE, replace(terms, model=model)) == rule


def test_a_task_is_posted_once_and_its_first_checkpoint_is_nobody_elses() -> None:
    chain = LedgerChain()
    terms = make_task(chain, register_data(chain))
    post_task(chain, terms)
    assert refuse(chain, DAVE, terms) == "task-known"
    assert refuse(chain, DAVE, replace(terms, price=7)) == "content-known"


def test_data_must_be_those_of_the_registered_root_and_of_a_size() -> None:
    chain = LedgerChain()
    dataset = register_data(chain)
    other = make_task(chain, dataset, data=b"\x02")
    assert refuse(chain, DAVE, other) == "task-data"
    false = chain.content.add(Sidecar(compute_dataset_root(b"\x01"), b"\x02"))
    assert refuse(chain, DAVE, replace(other, data_hash=false)) == "part-root"
    nameless = chain.content.add(Sidecar(compute_dataset_root(b"\x02"), b"\x01"))
    assert refuse(chain, DAVE, replace(other, data_hash=nameless)) == "task-data"
    long = chain.content.add(Sidecar(compute_dataset_root(b"\x01"), bytes(chain.context.parameters.sidecar_bytes_max)))
    assert refuse(chain, DAVE, replace(other, data_hash=long)) == "sidecar-size"


def test_few_tasks_live_at_a_time_and_few_fund_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = LedgerChain()
    dataset = register_data(chain)
    names = [
        post_task(chain, make_task(chain, dataset, number, budget=BUDGET_MIN))
        for number in range(2, 2 + LIVE_TASKS_MAX)
    ]
    assert get_live_names(chain.view) == tuple(sorted(names))
    assert refuse(chain, DAVE, make_task(chain, dataset, 99)) == "task-full"
    assert FUNDERS_MAX > 2
    monkeypatch.setattr(task_pots, "FUNDERS_MAX", 2)
    chain.mine(chain.sign(ALICE, FundTask(names[0], FUND_MIN)))
    assert refuse(chain, BOB, FundTask(names[0], FUND_MIN)) == "fund-full"
    chain.mine(chain.sign(ALICE, FundTask(names[0], FUND_MIN)))


def test_funds_go_to_posted_tasks_in_whole_coins_or_more() -> None:
    chain = LedgerChain()
    name = post_task(chain, make_task(chain, register_data(chain)))
    assert refuse(chain, BOB, FundTask(name, FUND_MIN - 1)) == "fund-amount"
    assert refuse(chain, BOB, FundTask(chain.context.task_id, FUND_MIN)) == "task-genesis"
    assert refuse(chain, BOB, FundTask(ZERO_HASH, FUND_MIN)) == "task"
    assert refuse(chain, BOB, FundTask(name, FUNDS + 1)) == "balance"


def test_a_tasks_block_data_count_among_those_of_a_block() -> None:
    chain = LedgerChain()
    dataset = register_data(chain)
    terms = [make_task(chain, dataset, number, budget=BUDGET_MIN) for number in range(2, 6)]
    first = chain.account(DAVE).nonce
    posts = [chain.sign(DAVE, each, nonce=first + place) for place, each in enumerate(terms)]
    commits = [chain.sign(key, chain.commit(key)) for key in (ALICE, BOB, CAROL)]
    limit = chain.context.parameters.sidecars_per_block
    assert len(posts) + len(commits) == limit - 1
    more = [chain.sign(key, chain.commit(key, 1), nonce=chain.account(key).nonce + 1) for key in (ALICE, BOB)]
    with pytest.raises(InvalidBlock, match="block-sidecars"):
        chain.execute(chain.draft(), *posts, *commits, *more)
    assert len(chain.assemble(*posts, *commits, *more)) == limit


def test_posting_needs_no_miner_and_moves_nothing_else() -> None:
    chain = LedgerChain()
    stranger = SigningKey(b"\x21" * 32)
    chain.mine(chain.sign(DAVE, Transfer(stranger.public_key, BUDGET)))
    terms = make_task(chain, register_data(chain))
    before = chain.task
    chain.mine(chain.sign(stranger, terms))
    name = compute_posted_task_id(chain.context.chain_id, stranger.public_key, terms)
    assert chain.view.get_existing(task_key(name)).pot == BUDGET
    assert chain.account(stranger).balance == 0
    assert chain.task == replace(before, pot=chain.task.pot)
    assert isinstance(terms, PostTask)


def test_threat_34_a_task_for_oneself_costs_its_rent_and_moves_nothing_of_anybody_elses() -> None:
    """Bob posts a task, trains it alone, and pays himself: what others would have had without it, they have."""
    with_task, without = LedgerChain(), LedgerChain()
    for chain in (with_task, without):
        dataset = register_data(chain)
        if chain is with_task:
            post_task(chain, make_task(chain, dataset, last_height=18), BOB)
        chain.mine_to(9)
        if chain is with_task:
            mine_round(chain, BOB)
        chain.mine_to(18)
    spent = without.account(BOB).balance - with_task.account(BOB).balance
    assert spent == RENT
    assert with_task.task == without.task
    assert with_task.account(ALICE).balance == without.account(ALICE).balance
    assert get_shares(with_task, with_task.context.task_id, BOB.public_key).units == 0


def test_threat_37_a_place_that_is_free_belongs_to_nobody() -> None:
    """A task that closes leaves its place to the next block's first, and neither pot, share nor round with it."""
    chain = LedgerChain()
    dataset = register_data(chain)
    first = [
        post_task(chain, make_task(chain, dataset, number, budget=BUDGET_MIN, last_height=18)) for number in range(2, 6)
    ]
    chain.mine_to(17)
    late = make_task(chain, dataset, 9, last_height=60)
    assert refuse(chain, CAROL, late) == "task-full", "they close at the end of the block"
    chain.mine()
    assert get_live_names(chain.view) == ()
    name = post_task(chain, late, CAROL)
    assert name not in first
    assert chain.view.get_existing(funding_key(name)).share_bp == 0
    assert (chain.state.round, chain.state.pot, chain.state.contributions) == (3, BUDGET, ())
