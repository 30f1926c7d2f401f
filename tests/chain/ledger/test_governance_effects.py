"""What votes change and what they never reach: bounds, rounds, emission, headers, bonds; threat 43."""

import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import InvalidBlock, InvalidTransaction
from chain.genesis import Parameters
from chain.ledger.bounds import (
    BOUNDS,
    Bound,
    compute_changed,
    get_ceiling,
    make_values,
    validate_step,
    validate_value,
)
from chain.ledger.governance_records import InForce, ProposalStatus
from chain.ledger.keys import SUPPLY_KEY, miner_key
from chain.ledger.subsidy import compute_subsidy, compute_subsidy_split
from chain.transaction import CastVote, ChangeParameter, PostBond, WithdrawBond
from tests.chain.ledger.test_transfers import refuse
from tests.support.governance import COIN, RAISE, accept, get_proposal, get_values, lock, propose, vote
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, PARAMETERS, LedgerChain, make_genesis, settle_round

ROOT = Path(__file__).parents[3]
EMISSION = {"subsidy", "subsidy_half_life", "first_price"}
VOTING = {"proposal_deposit", "voting_blocks", "enactment_blocks", "quorum_bp"}
QUICK = replace(PARAMETERS, voting_blocks=2, enactment_blocks=1)


def make_ruled(parameters: Parameters = QUICK) -> LedgerChain:
    """Return a chain on which Dave decides alone."""
    chain = LedgerChain(make_genesis(parameters))
    lock(chain, DAVE, 950)
    return chain


def test_the_table_names_what_is_in_force_and_no_more() -> None:
    assert [bound.name for bound in BOUNDS] == [field.name for field in fields(InForce)]
    assert {bound.name for bound in BOUNDS} < {field.name for field in fields(Parameters)}
    values = asdict(make_values(PARAMETERS))
    assert all(bound.lowest <= values[bound.name] <= bound.highest for bound in BOUNDS)


def test_threat_43_no_vote_reaches_emission_or_the_rules_of_voting() -> None:
    assert not {bound.name for bound in BOUNDS} & (EMISSION | VOTING)
    assert {field.name for field in fields(Parameters)} > EMISSION | VOTING


def test_threat_43_no_rule_of_headers_reads_what_a_vote_may_change() -> None:
    """A header is checked without a state, by light clients too: what it is checked by stands in genesis."""
    names = "|".join(bound.name for bound in BOUNDS)
    sources = [path for room in ("consensus", "p2p") for path in sorted((ROOT / room).rglob("*.py"))]
    sources += sorted((ROOT / "node").glob("light*.py"))
    assert len(sources) > 20
    assert not [path.name for path in sources if re.search(rf"\.({names})\b", path.read_text(encoding="utf-8"))]
    planted = "parameters.deposit + parameters.interval_ms"
    assert re.search(rf"\.({names})\b", planted)


@given(st.sampled_from(BOUNDS), st.lists(st.tuples(st.booleans(), st.integers(0, 2**64 - 1)), max_size=60), st.data())
def test_threat_43_no_row_of_votes_leaves_the_bounds(
    bound: Bound, votes: list[tuple[bool, int]], data: st.DataObject
) -> None:
    start = data.draw(st.integers(bound.lowest, bound.highest))
    values = replace(make_values(PARAMETERS), **{bound.name: start})
    for is_far, drawn in votes:
        value = asdict(values)[bound.name]
        wanted = drawn if is_far else value + (drawn % (2 * value) - value)
        change = ChangeParameter(bound.name, max(0, wanted))
        try:
            validate_value(change)
            validate_step(change, values)
        except InvalidTransaction:
            continue
        values = compute_changed(values, change)
        after = asdict(values)
        assert bound.lowest <= after[bound.name] <= bound.highest
        assert 100 * abs(after[bound.name] - value) <= max(100, bound.step_percent * value)
        assert {name: after[name] for name in after if name != bound.name} == {
            name: number for name, number in asdict(make_values(PARAMETERS)).items() if name != bound.name
        }


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.name)
def test_votes_reach_both_bounds(bound: Bound) -> None:
    for goal in (bound.lowest, bound.highest):
        values = make_values(PARAMETERS)
        for _ in range(60):
            value = asdict(values)[bound.name]
            step = bound.compute_step(value)
            change = ChangeParameter(bound.name, max(goal, value - step) if goal < value else min(goal, value + step))
            if value == goal:
                break
            validate_value(change)
            validate_step(change, values)
            values = compute_changed(values, change)
        assert asdict(values)[bound.name] == goal


def test_threat_43_no_number_changes_within_a_round() -> None:
    """Whatever block a proposal stands in, the values move with a block that ends a round, and with no other."""
    for offset in range(9):
        chain = make_ruled()
        chain.mine_to(1 + offset)
        name = propose(chain, DAVE)
        vote(chain, DAVE, name)
        moved = []
        for _ in range(30):
            before = get_values(chain)
            chain.mine()
            if get_values(chain) != before:
                moved.append(chain.height)
        assert moved == [get_proposal(chain, name).effect_height]
        assert moved[0] % QUICK.round_blocks == 0
        assert moved[0] >= get_proposal(chain, name).close_height + QUICK.enactment_blocks
        assert get_values(chain).deposit == RAISE.value


def test_threat_43_segments_under_way_keep_the_deposit_that_they_were_committed_with() -> None:
    chain = make_ruled()
    name = propose(chain, DAVE)
    chain.mine(chain.sign(DAVE, CastVote(name, 1)), chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(5)
    assert get_proposal(chain, name).effect_height == 9
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    assert chain.contribution(BOB).deposit == PARAMETERS.deposit
    before = chain.account(BOB).balance
    chain.mine_to(9)
    assert get_values(chain).deposit == RAISE.value
    assert chain.account(BOB).balance - before == PARAMETERS.deposit + chain.contribution(BOB, round_number=0).reward
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    assert chain.contribution(BOB).deposit == RAISE.value


def test_threat_43_no_key_changes_anything_without_a_vote() -> None:
    """All miners together, one of them the proposer, with two coins less than a fifth of all: nobody hears them."""
    chain = LedgerChain(make_genesis(replace(QUICK, subsidy=0, voting_blocks=5)))
    miners = (ALICE, BOB, CAROL)
    for key in miners:
        lock(chain, key, 276)
    name = propose(chain, ALICE)
    for key in miners:
        chain.mine(chain.sign(key, CastVote(name, 1)), miner=key)
    chain.mine_to(30)
    assert get_proposal(chain, name).yes == 828 * COIN
    assert get_proposal(chain, name).status is ProposalStatus.EXPIRED
    assert get_values(chain) == make_values(QUICK)


def test_threat_43_values_are_written_at_genesis_and_by_enactment_alone() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "chain").rglob("*.py")}
    writers = {name: text.count("put(IN_FORCE_KEY") for name, text in sources.items() if "put(IN_FORCE_KEY" in text}
    assert writers == {"genesis_state.py": 1, "proposals.py": 1}
    enactment = sources["proposals.py"].split("def _enact(")[1].split("\ndef ")[0]
    assert "put(IN_FORCE_KEY" in enactment


def test_threat_43_what_is_issued_does_not_depend_on_votes() -> None:
    ruled, other = make_ruled(), make_ruled()
    name = accept(ruled, DAVE, ChangeParameter("treasury_bp", 1_250))
    ruled.mine_to(40)
    other.mine_to(40)
    supplies = [chain.view.get_existing(SUPPLY_KEY) for chain in (ruled, other)]
    assert supplies[0].issued == supplies[1].issued == sum(compute_subsidy(h, PARAMETERS) for h in range(1, 41))
    effect_height = get_proposal(ruled, name).effect_height
    changed = replace(PARAMETERS, treasury_bp=1_250)
    expected = sum(
        compute_subsidy_split(height, changed if height > effect_height else PARAMETERS).treasury
        for height in range(1, 41)
    )
    assert supplies[0].treasury == expected > supplies[1].treasury


@given(st.integers(0, 10_000), st.integers(1, 10**6))
def test_a_split_is_the_whole_of_a_subsidy(treasury_bp: int, height: int) -> None:
    parameters = replace(PARAMETERS, treasury_bp=treasury_bp)
    split = compute_subsidy_split(height, parameters)
    assert split.reward + split.pot + split.treasury == compute_subsidy(height, parameters)
    assert split.reward == split.pot >= 0
    assert split.treasury * 10_000 >= compute_subsidy(height, parameters) * treasury_bp


def test_a_bond_that_stands_stays_good_when_more_is_asked_of_new_ones() -> None:
    chain = make_ruled(replace(QUICK, evidence_blocks=9))
    chain.mine(chain.sign(BOB, WithdrawBond(PARAMETERS.bond)))
    accept(chain, DAVE, ChangeParameter("bond", 75 * COIN))
    chain.mine_to(11)
    chain.mine(chain.sign(BOB, WithdrawBond(PARAMETERS.bond)))
    assert refuse(chain, chain.sign(BOB, PostBond(50 * COIN))) == "bond-amount"
    chain.mine(chain.sign(BOB, PostBond(75 * COIN)), miner=CAROL)
    bonds = [chain.view.get_existing(miner_key(key.public_key)).bond for key in (ALICE, BOB)]
    assert bonds == [50 * COIN, 75 * COIN]
    chain.mine_to(chain.task.start_height + 9)
    settle_round(chain, ALICE, BOB, miner=ALICE)
    assert refuse(chain, chain.sign(BOB, PostBond(75 * COIN))) == "bond-held"


def test_the_contributions_of_blocks_and_rounds_follow_their_votes() -> None:
    chain = make_ruled(replace(QUICK, sidecars_per_block=3, contributions_per_round=8))
    accept(chain, DAVE, ChangeParameter("sidecars_per_block", 2))
    keys = (ALICE, BOB, CAROL)
    commits = [chain.sign(key, chain.commit(key)) for key in keys]
    with pytest.raises(InvalidBlock) as refusal:
        chain.execute(chain.draft(), *commits)
    assert refusal.value.rule == "block-sidecars"
    assert len(chain.assemble(*commits)) == 2
    assert get_ceiling(chain.context.parameters, "sidecars_per_block") == 32
    assert get_ceiling(replace(PARAMETERS, sidecars_per_block=40), "sidecars_per_block") == 40


def test_votes_move_no_balance_but_stake_and_deposit() -> None:
    chain = make_ruled(replace(QUICK, subsidy=0))
    accounts = [chain.account(key).balance for key in (ALICE, BOB, CAROL)]
    accept(chain, DAVE, RAISE)
    assert [chain.account(key).balance for key in (ALICE, BOB, CAROL)] == accounts
