"""Data sets, models, shares and income, rule by rule; threats 36, 38, 39, 40 and 41."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import InvalidTransaction
from chain.ledger.economy_records import Model
from chain.ledger.keys import SUPPLY_KEY, content_key, licence_key, model_key, shares_key
from chain.ledger.registry import (
    DEPTH_MAX,
    GENESIS_ROYALTY_BP,
    NOBODY,
    TREASURY_BP,
    compute_model_id,
    validate_model_terms,
)
from chain.ledger.registry import make_model as make_record
from chain.ledger.shares import FRACTION_BITS, compute_spread
from chain.ledger.spdx import validate_licence
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import Action, BuyLicence, ClaimIncome, PayModel, TransferShares
from tests.chain.ledger.test_transfers import refuse, refuse_in_pool
from tests.support.economy import (
    compute_content_root,
    get_model,
    get_shares,
    make_dataset,
    make_model,
    register_dataset,
    register_model,
)
from tests.support.hash_training import SEGMENT_MACS
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, TASK, LedgerChain, settle_round

COIN = 10**9
OWNER, AUTHOR, CHILD_AUTHOR = (SigningKey(bytes([number]) * 32) for number in range(11, 14))


def refuse_action(chain: LedgerChain, key: SigningKey, action: Action) -> str:
    return refuse(chain, chain.sign(key, action))


def claim(chain: LedgerChain, key: SigningKey, model: Hash) -> int:
    """Claim, and return the atoms that it brought."""
    before = chain.account(key).balance
    chain.mine(chain.sign(key, ClaimIncome(model)), miner=CAROL)
    return chain.account(key).balance - before


def test_the_networks_task_is_its_first_model() -> None:
    chain = LedgerChain()
    model = get_model(chain, chain.context.task_id)
    assert (model.owner, model.units, model.held, model.depth) == (NOBODY, 0, 0, 0)
    assert (model.terms.name, model.terms.checkpoint_root) == (TASK.name, TASK.checkpoint_root)
    for root in (TASK.dataset_root, TASK.checkpoint_root):
        assert chain.view.get(content_key(root)) is not None
    validate_model_terms(model.terms)


def test_a_registration_stands_in_the_state_as_it_was_signed() -> None:
    chain = LedgerChain()
    data = register_dataset(chain, DAVE, make_dataset(1, royalty_bp=500))
    terms = make_model(2, (chain.context.task_id,), (data,), royalty_bp=700, author_bp=900, licence_price=5)
    model = get_model(chain, register_model(chain, DAVE, terms))
    assert model == replace(make_record(DAVE.public_key, terms, 2, 1))
    other = LedgerChain(replace(chain.genesis, network="another"))
    names = [compute_model_id(each.context.chain_id, DAVE.public_key, terms) for each in (chain, other)]
    assert len(set(names)) == 2, "a name belongs to one chain"


@pytest.mark.parametrize("licence", ["MIT", "GPL-2.0+", "LicenseRef-a.b", "A-1 WITH B-2 OR C", "MIT AND Apache-2.0"])
def test_forms_of_licences(licence: str) -> None:
    validate_licence(licence)


@pytest.mark.parametrize(
    "licence",
    ["", " MIT", "MIT ", "MIT  OR X", "MIT OR", "OR", "MIT or X", "(MIT)", "M\nIT", "MIT\n", "A WITH B WITH C"],
)
def test_texts_that_are_no_licence(licence: str) -> None:
    with pytest.raises(InvalidTransaction, match="licence"):
        validate_licence(licence)
    chain = LedgerChain()
    transaction = chain.sign(DAVE, replace(make_dataset(1), licence=licence))
    assert refuse(chain, transaction) == refuse_in_pool(chain, transaction) == "licence"


@pytest.mark.parametrize(
    ("action", "rule"),
    [
        (make_dataset(1, royalty_bp=10_001), "royalty"),
        (replace(make_model(1), name=""), "model-name"),
        (replace(make_model(1), name="\x1b]0;mine\x07"), "model-name"),
        (replace(make_model(1), licence="?"), "licence"),
        (make_model(1, royalty_bp=9_901), "royalty"),
        (make_model(1, author_bp=9_901), "income-parts"),
        (replace(make_model(1), datasets=(TASK.dataset_root, TASK.dataset_root)), "model-datasets"),
        (TransferShares(TASK.dataset_root, DAVE.public_key, 0), "units"),
        (TransferShares(TASK.dataset_root, PublicKey(bytes(32)), 1), "recipient"),
        (PayModel(TASK.dataset_root, 0), "amount"),
        (PayModel(TASK.dataset_root, FUNDS + 1), "balance"),
        (BuyLicence(TASK.dataset_root, FUNDS + 1), "balance"),
    ],
)
def test_what_pool_and_block_refuse_without_looking_at_models(action: Action, rule: str) -> None:
    chain = LedgerChain()
    transaction = chain.sign(DAVE, action)
    assert refuse(chain, transaction) == refuse_in_pool(chain, transaction) == rule


@pytest.mark.parametrize(
    ("action", "rule"),
    [
        (make_model(1, parents=(TASK.dataset_root,)), "model-unknown"),
        (make_model(1, datasets=(TASK.dataset_root,)), "dataset-unknown"),
        (PayModel(TASK.dataset_root, 1), "model-unknown"),
        (BuyLicence(TASK.dataset_root, 1), "model-unknown"),
        (ClaimIncome(TASK.dataset_root), "model-unknown"),
        (TransferShares(TASK.dataset_root, DAVE.public_key, 1), "model-unknown"),
    ],
)
def test_what_names_nothing_is_refused(action: Action, rule: str) -> None:
    assert refuse_action(LedgerChain(), DAVE, action) == rule


def test_a_licence_is_sold_once_an_account_at_its_price() -> None:
    chain = LedgerChain()
    model = register_model(chain, DAVE, make_model(1, licence_price=COIN, author_bp=5_000))
    assert refuse_action(chain, BOB, BuyLicence(model, COIN - 1)) == "licence-price"
    assert refuse_action(chain, BOB, BuyLicence(chain.context.task_id, 1)) == "licence-free"
    chain.mine(chain.sign(BOB, BuyLicence(model, COIN)))
    licence = chain.view.get_existing(licence_key(model, BOB.public_key))
    assert (licence.height, licence.price) == (2, COIN)
    assert chain.view.get(licence_key(model, ALICE.public_key)) is None
    assert refuse_action(chain, BOB, BuyLicence(model, COIN)) == "licence-held"
    assert chain.account(BOB).balance == FUNDS - COIN
    assert chain.account(DAVE).balance == FUNDS + COIN // 2


def test_settled_segments_mint_units_as_many_as_their_macs() -> None:
    chain = LedgerChain()
    task = chain.context.task_id
    settle_round(chain, ALICE, BOB)
    settle_round(chain, BOB)
    assert get_model(chain, task).units == 3 * SEGMENT_MACS
    assert get_shares(chain, task, ALICE.public_key).units == SEGMENT_MACS
    assert get_shares(chain, task, BOB.public_key).units == 2 * SEGMENT_MACS
    assert chain.view.get(shares_key(task, CAROL.public_key)) is None


def test_threat_36_no_units_for_work_that_was_not_verified() -> None:
    """A flawed segment that passes its spot checks, and one that is never opened, earn no unit."""
    chain = LedgerChain()
    flawed = chain.training.make_sidecar(chain.segment(BOB), flaw=bytes(32))
    chain.mine(chain.sign(BOB, chain.commit(BOB, sidecar=flawed)), chain.sign(CAROL, chain.commit(CAROL)))
    chain.mine_to(3)
    chain.mine(chain.sign(BOB, chain.prove(BOB)), chain.sign(DAVE, chain.demand(BOB)))
    chain.mine_to(9)
    assert get_model(chain, chain.context.task_id).units == 0
    for key in (BOB, CAROL):
        assert chain.view.get(shares_key(chain.context.task_id, key.public_key)) is None


def test_income_without_holders_waits_for_all_who_settle_first() -> None:
    chain = LedgerChain()
    task = chain.context.task_id
    chain.mine(
        chain.sign(DAVE, PayModel(task, 2 * COIN)),
        chain.sign(ALICE, chain.commit(ALICE)),
        chain.sign(BOB, chain.commit(BOB)),
    )
    model = get_model(chain, task)
    assert (model.held, model.waiting, model.units) == (2 * COIN * 99 // 100, 2 * COIN * 99 // 100, 0)
    chain.mine_to(3)
    chain.mine(*(chain.sign(key, chain.prove(key)) for key in (ALICE, BOB)))
    chain.mine_to(9)
    assert get_model(chain, task).waiting == 0
    # A counter in 2^-64 atoms stays below the even half; the atoms that are not whole yet wait for the next payment.
    assert claim(chain, ALICE, task) == claim(chain, BOB, task) == COIN * 99 // 100 - 1
    assert get_model(chain, task).held == 2
    chain.mine(chain.sign(DAVE, PayModel(task, 2)))
    assert claim(chain, ALICE, task) == claim(chain, BOB, task) == 1


def test_threat_38_paying_oneself_costs_what_others_are_owed() -> None:
    """Whoever holds all units and is the author gets less back than it pays, and no reward depends on income."""
    chain = LedgerChain()
    settle_round(chain, BOB)
    task, price = chain.context.task_id, chain.task.price
    before = chain.account(BOB).balance
    chain.mine(chain.sign(BOB, PayModel(task, COIN)))
    claim(chain, BOB, task)
    assert before - chain.account(BOB).balance == COIN * TREASURY_BP // 10_000 + get_model(chain, task).held
    assert get_model(chain, task).held == 1
    assert (chain.task.price, get_model(chain, task).units) == (price, SEGMENT_MACS)


def test_threat_39_no_atom_of_a_payment_is_lost_to_division() -> None:
    """Odd atoms among thirds: what is claimed in the end is what was paid, but for less than an atom each."""
    chain = LedgerChain()
    settle_round(chain, ALICE, BOB, CAROL)
    task = chain.context.task_id
    amounts = (1, 7, 100, 101, 99_999, COIN + 1)
    for amount in amounts:
        chain.mine(chain.sign(DAVE, PayModel(task, amount)))
    due = sum(amount - amount * TREASURY_BP // 10_000 for amount in amounts)
    claimed = sum(claim(chain, key, task) for key in (ALICE, BOB))
    chain.mine(chain.sign(CAROL, ClaimIncome(task)), miner=ALICE)
    model = get_model(chain, task)
    assert model.held < 3
    owed = [get_shares(chain, task, key.public_key) for key in (ALICE, BOB, CAROL)]
    assert model.held << FRACTION_BITS == model.remainder + sum(shares.fraction for shares in owed)
    assert claimed == 2 * (due // 3)


def test_threat_39_nothing_is_claimed_twice() -> None:
    chain = LedgerChain()
    settle_round(chain, BOB)
    task = chain.context.task_id
    chain.mine(chain.sign(DAVE, PayModel(task, COIN)))
    first, second = (chain.sign(BOB, ClaimIncome(task), nonce=chain.account(BOB).nonce + i) for i in range(2))
    assert refuse(chain, second) == "nonce"
    chain.mine(first)
    assert refuse(chain, second) == "income-none"
    chain.mine(chain.sign(BOB, TransferShares(task, DAVE.public_key, SEGMENT_MACS)))
    assert refuse_action(chain, DAVE, ClaimIncome(task)) == "income-none", "units bring nothing that was earned before"


def test_threat_39_shares_bought_after_income_earn_none_of_it() -> None:
    chain = LedgerChain()
    settle_round(chain, BOB)
    task, dave = chain.context.task_id, DAVE.public_key
    chain.mine(chain.sign(ALICE, PayModel(task, COIN)), miner=CAROL)
    chain.mine(chain.sign(BOB, TransferShares(task, dave, SEGMENT_MACS // 2)), miner=CAROL)
    assert get_shares(chain, task, dave).earned == 0
    chain.mine(chain.sign(DAVE, TransferShares(task, BOB.public_key, SEGMENT_MACS // 2)), miner=CAROL)
    assert chain.view.get(shares_key(task, dave)) is None, "who has nothing leaves nothing"
    chain.mine(chain.sign(BOB, TransferShares(task, BOB.public_key, 5)), miner=CAROL)
    assert claim(chain, BOB, task) == COIN * 99 // 100 - 1
    assert get_shares(chain, task, BOB.public_key).units == get_model(chain, task).units == SEGMENT_MACS


def test_threat_39_who_gives_all_units_away_may_still_claim_what_they_earned() -> None:
    chain = LedgerChain()
    settle_round(chain, BOB)
    task = chain.context.task_id
    chain.mine(chain.sign(ALICE, PayModel(task, COIN)), miner=CAROL)
    chain.mine(chain.sign(BOB, TransferShares(task, DAVE.public_key, SEGMENT_MACS)), miner=CAROL)
    assert get_shares(chain, task, BOB.public_key).units == 0
    assert claim(chain, BOB, task) == COIN * 99 // 100 - 1


def test_shares_that_nobody_holds_are_not_sent() -> None:
    chain = LedgerChain()
    settle_round(chain, BOB)
    task = chain.context.task_id
    assert refuse_action(chain, BOB, TransferShares(task, DAVE.public_key, SEGMENT_MACS + 1)) == "units"
    assert refuse_action(chain, DAVE, TransferShares(task, BOB.public_key, 1)) == "units"


def test_threat_40_a_lineage_is_no_deeper_than_a_payment_follows() -> None:
    chain = LedgerChain()
    name = chain.context.task_id
    for depth in range(1, DEPTH_MAX):
        name = register_model(chain, DAVE, make_model(depth, parents=(name,), royalty_bp=5_000))
    assert get_model(chain, name).depth == DEPTH_MAX - 1
    assert refuse_action(chain, DAVE, make_model(99, parents=(name,))) == "model-depth"
    chain.mine(chain.sign(DAVE, PayModel(name, 10**6)))
    # The parent of the last takes half, its parent half of that, and the first model a tenth of what its child got.
    assert get_model(chain, chain.context.task_id).held == 10**6 // 2**6 * GENESIS_ROYALTY_BP // 10_000


def test_threat_40_no_model_is_its_own_ancestor() -> None:
    """A parent stands before its child: a model that names itself, or one that is yet to come, names nothing."""
    chain = LedgerChain()
    terms = make_model(1)
    coming = compute_model_id(chain.context.chain_id, DAVE.public_key, terms)
    child = make_model(2, parents=(coming,))
    assert refuse_action(chain, DAVE, child) == "model-unknown"
    own = compute_model_id(chain.context.chain_id, DAVE.public_key, child)
    assert compute_model_id(chain.context.chain_id, DAVE.public_key, replace(child, parents=(own,))) != own
    register_model(chain, DAVE, terms)
    assert register_model(chain, DAVE, child) == own
    assert refuse_action(chain, DAVE, replace(terms, parents=(own,))) == "content-known"


def test_threat_40_nobody_owes_more_than_all_of_an_income() -> None:
    chain = LedgerChain()
    data = register_dataset(chain, BOB, make_dataset(1, royalty_bp=4_000))
    parent = register_model(chain, BOB, make_model(2, royalty_bp=3_000))
    greedy = make_model(3, (parent,), (data,), author_bp=10_000 - 4_000 - 3_000 - TREASURY_BP + 1)
    assert refuse_action(chain, DAVE, greedy) == "income-parts"
    name = register_model(chain, DAVE, replace(greedy, author_bp=greedy.author_bp - 1))
    before = chain.view.get_existing(SUPPLY_KEY).treasury
    chain.mine(chain.sign(ALICE, PayModel(name, 10**4)))
    assert get_model(chain, name).held == 0, "the parts leave nothing"
    assert chain.view.get_existing(SUPPLY_KEY).treasury > before


def test_threat_41_content_is_registered_once_whoever_comes_second() -> None:
    chain = LedgerChain()
    settlement = settle_round(chain, BOB).settlement
    assert settlement is not None
    register_dataset(chain, DAVE, make_dataset(1))
    register_model(chain, DAVE, make_model(2))
    for number in (1, 2):
        assert refuse_action(chain, BOB, make_dataset(number, royalty_bp=9)) == "content-known"
        assert refuse_action(chain, BOB, make_model(number, author_bp=9)) == "content-known"
    for root in (TASK.dataset_root, TASK.checkpoint_root, settlement.checkpoint_root):
        assert refuse_action(chain, BOB, replace(make_dataset(9), content_root=root)) == "content-known"
        assert refuse_action(chain, BOB, replace(make_model(9), checkpoint_root=root)) == "content-known"


def test_threat_41_a_root_alone_tells_nothing_of_its_content() -> None:
    """What is left until a task shows the content (`test_near_duplicates`), and that a lineage may not be told."""
    chain = LedgerChain()
    register_dataset(chain, DAVE, make_dataset(1))
    root = compute_content_root(1)
    copied = Hash(bytes([root[0] ^ 1]) + root[1:])
    register_dataset(chain, BOB, replace(make_dataset(1), content_root=copied))
    assert chain.view.get(content_key(copied)) is not None


def test_the_order_of_independent_payments_leaves_no_trace() -> None:
    chain = LedgerChain()
    settle_round(chain, ALICE, BOB, CAROL)
    task = chain.context.task_id
    child = register_model(chain, DAVE, make_model(1, (task,), author_bp=1_234, licence_price=COIN + 3))
    actions = ((ALICE, BuyLicence(child, COIN + 3)), (BOB, PayModel(task, 101)), (CAROL, PayModel(child, 77_777)))
    signed = [chain.sign(key, action) for key, action in actions]
    roots = {chain.execute(chain.draft(), *order).state_root for order in permutations(signed)}
    assert len(roots) == 1
    chain.mine(*signed)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**70)), max_size=8), st.integers(0, 2**128 - 1))
def test_a_spread_keeps_every_atom(payments: list[tuple[int, int]], units: int) -> None:
    """Over payments and new units, up to the bounds of the records: held = waiting, divided and remainder."""
    model: Model = make_record(NOBODY, make_model(1), 0, 0)
    divided = 0
    model = replace(model, units=units)
    for amount, minted in payments:
        before = model
        model = compute_spread(model, amount)
        divided += (model.per_unit - before.per_unit) * model.units
        assert model.held << FRACTION_BITS == (model.waiting << FRACTION_BITS) + divided + model.remainder
        assert not model.units or model.remainder < model.units
        model = replace(model, units=model.units + minted)


def test_a_model_that_nobody_trains_on_the_chain_keeps_the_shareholders_part() -> None:
    chain = LedgerChain()
    name = register_model(chain, DAVE, make_model(1, author_bp=4_000))
    chain.mine(chain.sign(BOB, PayModel(name, COIN)))
    model = chain.view.get_existing(model_key(name))
    assert model.waiting == model.held == COIN - COIN * 4_000 // 10_000 - COIN * TREASURY_BP // 10_000
    assert refuse_action(chain, DAVE, ClaimIncome(name)) == "income-none"
