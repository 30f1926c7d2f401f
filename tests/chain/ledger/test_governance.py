"""Stake, proposals and votes, rule by rule: what is refused first; threat 43."""

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidBlock
from chain.genesis import Parameters
from chain.ledger.bounds import BOUNDS
from chain.ledger.context import ProposalChanged
from chain.ledger.genesis_state import validate_genesis
from chain.ledger.governance_records import DECIDED_MAX, EMPTY_STAKE, LIVE_MAX, Choice, ProposalStatus, Stake
from chain.ledger.keys import AGENDA_KEY, SUPPLY_KEY, stake_key, vote_key
from chain.ledger.proposals import compute_circulating, compute_effect_height, compute_proposal_id
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import (
    Action,
    CastVote,
    Change,
    ChangeParameter,
    LockStake,
    ProposeChange,
    SpendTreasury,
    Transfer,
    UnlockStake,
)
from tests.chain.ledger.test_transfers import refuse, refuse_in_pool
from tests.support.governance import (
    COIN,
    RAISE,
    accept,
    get_locked,
    get_proposal,
    get_values,
    lock,
    propose,
    spend,
    vote,
)
from tests.support.ledger import BOB, CAROL, DAVE, FUNDS, PARAMETERS, LedgerChain, make_genesis

SCARCE = replace(PARAMETERS, subsidy=0)
"""Nothing is issued, so that 4,150 coins circulate and 830 are the quorum."""
QUORUM = 830
FIXED = sorted({field.name for field in fields(Parameters)} - {bound.name for bound in BOUNDS})
NOBODY = Hash(b"\x07" * 32)


def refuse_action(chain: LedgerChain, key: SigningKey, action: Action) -> str:
    return refuse(chain, chain.sign(key, action))


def propose_value(name: str, value: int) -> ProposeChange:
    return ProposeChange("a change", ChangeParameter(name, value))


def make_staked(coins: int = QUORUM, parameters: Parameters = SCARCE) -> LedgerChain:
    """Return a chain on which Dave has locked so many coins."""
    chain = LedgerChain(make_genesis(parameters))
    lock(chain, DAVE, coins)
    return chain


@pytest.mark.parametrize(
    ("action", "rule"),
    [
        (LockStake(0), "amount"),
        (UnlockStake(0), "amount"),
        (LockStake(FUNDS + 1), "balance"),
        *((ProposeChange(title, RAISE), "proposal-title") for title in ("", "a\nb", "\x1b[2J", "\x7f", "\x9b1m")),
        (propose_value("", 5), "change-parameter"),
        (propose_value("Deposit", 6 * COIN), "change-parameter"),
        *((propose_value(name, 1), "change-parameter") for name in FIXED),
        *((propose_value(bound.name, bound.lowest - 1), "change-bounds") for bound in BOUNDS),
        *((propose_value(bound.name, bound.highest + 1), "change-bounds") for bound in BOUNDS),
        (ProposeChange("pay", spend(DAVE, 0)), "amount"),
        (ProposeChange("pay", SpendTreasury(PublicKey(bytes(32)), 1)), "recipient"),
        (CastVote(NOBODY, 3), "vote-choice"),
        (CastVote(NOBODY, 255), "vote-choice"),
    ],
)
def test_what_pool_and_block_refuse_without_looking_at_proposals(action: Action, rule: str) -> None:
    chain = LedgerChain()
    transaction = chain.sign(DAVE, action)
    assert refuse(chain, transaction) == refuse_in_pool(chain, transaction) == rule


@pytest.mark.parametrize(
    ("action", "rule"),
    [
        (propose_value("deposit", 5 * COIN), "change-step"),
        (propose_value("deposit", 7 * COIN + COIN // 2 + 1), "change-step"),
        (propose_value("treasury_bp", 1_251), "change-step"),
        (propose_value("sidecars_per_block", 13), "change-step"),
        (ProposeChange("pay", spend(DAVE, 1)), "spend-treasury"),
        (CastVote(NOBODY, 1), "proposal-unknown"),
        (UnlockStake(1), "stake-amount"),
    ],
)
def test_what_does_not_fit_the_state_is_refused(action: Action, rule: str) -> None:
    assert refuse_action(LedgerChain(), DAVE, action) == rule


def test_a_proposal_without_its_deposit_is_refused() -> None:
    chain = LedgerChain()
    chain.mine(chain.sign(DAVE, Transfer(BOB.public_key, FUNDS - PARAMETERS.proposal_deposit + 1)))
    transaction = chain.sign(DAVE, ProposeChange("a change", RAISE))
    assert refuse(chain, transaction) == refuse_in_pool(chain, transaction) == "balance"


def test_who_has_locked_nothing_has_no_vote() -> None:
    chain = make_staked()
    name = propose(chain, DAVE)
    assert refuse_action(chain, BOB, CastVote(name, 1)) == "vote-stake"
    assert chain.view.get(vote_key(name, BOB.public_key)) is None


@pytest.mark.parametrize("is_first", [True, False])
def test_threat_43_stake_that_is_locked_with_a_proposal_has_no_vote(is_first: bool) -> None:
    """Whoever orders a block cannot put its own stake before a proposal of that block."""
    chain = make_staked()
    terms = ProposeChange("a change", RAISE)
    both = [chain.sign(BOB, LockStake(900 * COIN)), chain.sign(DAVE, terms)]
    name = compute_proposal_id(chain.context.chain_id, DAVE.public_key, 1, terms)
    chain.mine(*(both if is_first else reversed(both)))
    assert refuse_action(chain, BOB, CastVote(name, 1)) == "vote-stake"


def test_threat_43_stake_that_comes_during_a_vote_does_not_count_in_it() -> None:
    """Nor does what is added to older stake; a vote that was cast before keeps what it was cast with."""
    chain = make_staked(500)
    lock(chain, BOB, 300)
    name = propose(chain, CAROL)
    vote(chain, DAVE, name)
    for key in (BOB, CAROL, DAVE):
        lock(chain, key, 400)
        if key is not DAVE:
            assert refuse_action(chain, key, CastVote(name, 0)) == "vote-stake"
    vote(chain, DAVE, name, Choice.NO)
    assert (get_proposal(chain, name).yes, get_proposal(chain, name).no) == (0, 500 * COIN)


def test_threat_43_stake_that_voted_is_locked_until_what_it_voted_on_is_in_effect() -> None:
    chain = make_staked()
    name = propose(chain, DAVE)
    chain.mine(chain.sign(DAVE, CastVote(name, 1)), chain.sign(DAVE, UnlockStake(QUORUM * COIN), nonce=3))
    release_height = chain.height + SCARCE.release_blocks
    assert get_locked(chain, DAVE) == Stake(0, 1, QUORUM * COIN, release_height)
    chain.mine_to(get_proposal(chain, name).close_height)
    assert get_proposal(chain, name).status is ProposalStatus.ACCEPTED
    assert get_proposal(chain, name).effect_height < release_height
    chain.mine_to(release_height - 2)
    assert get_proposal(chain, name).status is ProposalStatus.ENACTED
    assert refuse_action(chain, DAVE, UnlockStake(QUORUM * COIN)) == "stake-release"
    chain.mine()
    before = chain.account(DAVE).balance
    chain.mine(chain.sign(DAVE, UnlockStake(QUORUM * COIN)))
    assert chain.account(DAVE).balance == before + QUORUM * COIN
    assert chain.view.get(stake_key(DAVE.public_key)) is None, "who has locked nothing leaves nothing"


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 100),
    st.data(),
)
def test_threat_43_no_vote_outlives_its_stake_whatever_the_windows_are(
    voting: int, enactment: int, commit: int, audit: int, made: int, data: st.DataObject
) -> None:
    """A vote at any height before the notice, and any place of the proposal within its round."""
    windows = replace(
        PARAMETERS, voting_blocks=voting, enactment_blocks=enactment, commit_blocks=commit, audit_blocks=audit
    )
    cast = data.draw(st.integers(made + 1, made + voting))
    notice = data.draw(st.integers(cast, cast + 50))
    effect = compute_effect_height(windows, made + voting)
    assert effect % windows.round_blocks == 0
    assert made + voting + enactment <= effect < notice + windows.release_blocks


def test_threat_43_what_is_leaving_has_no_vote() -> None:
    chain = make_staked()
    chain.mine(chain.sign(DAVE, UnlockStake(QUORUM * COIN - 1)))
    name = propose(chain, BOB)
    vote(chain, DAVE, name)
    assert get_proposal(chain, name).yes == 1
    chain.mine_to(get_proposal(chain, name).close_height)
    assert get_proposal(chain, name).status is ProposalStatus.EXPIRED


def test_stake_is_taken_back_by_one_notice_at_a_time() -> None:
    chain = make_staked(100)
    assert refuse_action(chain, DAVE, UnlockStake(100 * COIN + 1)) == "stake-amount"
    chain.mine(chain.sign(DAVE, UnlockStake(40 * COIN)))
    release_height = chain.height + SCARCE.release_blocks
    assert refuse_action(chain, DAVE, UnlockStake(60 * COIN)) == "stake-leaving"
    lock(chain, DAVE, 5)
    assert get_locked(chain, DAVE) == Stake(65 * COIN, 3, 40 * COIN, release_height)
    chain.mine_to(release_height - 1)
    chain.mine(chain.sign(DAVE, UnlockStake(40 * COIN)))
    assert get_locked(chain, DAVE) == Stake(65 * COIN, 3, 0, 0)
    assert get_locked(chain, BOB) == EMPTY_STAKE


def test_a_proposal_is_open_to_the_end_of_its_last_block() -> None:
    chain = make_staked()
    name = propose(chain, DAVE)
    proposal = get_proposal(chain, name)
    assert (proposal.made_height, proposal.close_height) == (2, 2 + SCARCE.voting_blocks)
    chain.mine_to(proposal.close_height - 1)
    vote(chain, DAVE, name)
    assert get_proposal(chain, name).status is ProposalStatus.ACCEPTED
    assert refuse_action(chain, DAVE, CastVote(name, 0)) == "proposal-closed"


def test_a_proposal_may_be_voted_on_in_its_own_block() -> None:
    chain = make_staked()
    terms = ProposeChange("a change", RAISE)
    name = compute_proposal_id(chain.context.chain_id, BOB.public_key, 0, terms)
    effects = chain.mine(chain.sign(BOB, terms), chain.sign(DAVE, CastVote(name, 1)))
    assert get_proposal(chain, name).yes == QUORUM * COIN
    assert ProposalChanged(name, ProposalStatus.OPEN) in effects.events


def test_an_account_has_one_vote_and_may_change_it() -> None:
    chain = make_staked()
    lock(chain, BOB, 1)
    name = propose(chain, DAVE)
    for choice in (Choice.YES, Choice.ABSTAIN, Choice.ABSTAIN, Choice.NO, Choice.YES):
        vote(chain, DAVE, name, choice)
        vote(chain, BOB, name, Choice.NO)
        proposal = get_proposal(chain, name)
        found = {Choice.YES: proposal.yes, Choice.NO: proposal.no - COIN, Choice.ABSTAIN: proposal.abstain}
        assert found == {each: QUORUM * COIN * (each is choice) for each in Choice}


@pytest.mark.parametrize(("missing", "status"), [(0, ProposalStatus.ACCEPTED), (1, ProposalStatus.EXPIRED)])
def test_the_quorum_is_a_part_of_all_that_circulates(missing: int, status: ProposalStatus) -> None:
    chain = LedgerChain(make_genesis(SCARCE))
    assert compute_circulating(chain.view.get_existing(SUPPLY_KEY)) == 4_150 * COIN
    chain.mine(chain.sign(DAVE, LockStake(QUORUM * COIN - missing)))
    name = propose(chain, BOB)
    vote(chain, DAVE, name)
    chain.mine_to(get_proposal(chain, name).close_height)
    assert (get_proposal(chain, name).status, get_proposal(chain, name).circulating) == (status, 4_150 * COIN)


def test_a_deposit_burns_when_too_few_have_voted_and_comes_back_otherwise() -> None:
    chain = make_staked()
    heard, unheard = propose(chain, BOB), propose(chain, CAROL)
    vote(chain, DAVE, heard, Choice.NO)
    chain.mine_to(get_proposal(chain, unheard).close_height)
    assert get_proposal(chain, heard).status is ProposalStatus.REJECTED
    assert get_proposal(chain, unheard).status is ProposalStatus.EXPIRED
    assert (chain.account(BOB).balance, chain.account(CAROL).balance) == (FUNDS, FUNDS - SCARCE.proposal_deposit)
    assert chain.view.get_existing(SUPPLY_KEY).burned == SCARCE.proposal_deposit


@pytest.mark.parametrize(
    ("choices", "status"),
    [
        ((Choice.YES, Choice.NO), ProposalStatus.REJECTED),
        ((Choice.ABSTAIN, Choice.ABSTAIN), ProposalStatus.REJECTED),
        ((Choice.NO, Choice.ABSTAIN), ProposalStatus.REJECTED),
        ((Choice.YES, Choice.ABSTAIN), ProposalStatus.ACCEPTED),
    ],
)
def test_more_must_be_for_it_than_against_it(choices: tuple[Choice, Choice], status: ProposalStatus) -> None:
    chain = make_staked(415)
    lock(chain, BOB, 415)
    name = propose(chain, CAROL)
    for key, choice in zip((DAVE, BOB), choices, strict=True):
        vote(chain, key, name, choice)
    chain.mine_to(get_proposal(chain, name).close_height)
    assert get_proposal(chain, name).status is status


def test_an_enacted_payment_leaves_the_treasury_for_its_recipient() -> None:
    chain = make_staked(950, PARAMETERS)
    chain.mine_to(20)
    treasury, balance = chain.view.get_existing(SUPPLY_KEY).treasury, chain.account(BOB).balance
    name = accept(chain, DAVE, spend(BOB, treasury // 4))
    assert get_proposal(chain, name).status is ProposalStatus.ENACTED
    assert chain.account(BOB).balance == balance + treasury // 4
    issued = (chain.height - 20) * COIN
    assert abs(chain.view.get_existing(SUPPLY_KEY).treasury - (treasury - treasury // 4 + issued)) < COIN // 10


def test_what_has_become_impossible_lapses() -> None:
    """Of two values the second is too far from the first; of two quarters of a treasury the second is more than one."""
    chain = make_staked(950, replace(PARAMETERS, subsidy_half_life=8))
    chain.mine_to(6 * PARAMETERS.round_blocks)
    quarter = chain.view.get_existing(SUPPLY_KEY).treasury // 4
    changes: list[Change] = [ChangeParameter("treasury_bp", 1_250), ChangeParameter("treasury_bp", 800)]
    changes += [spend(BOB, quarter), spend(CAROL, quarter)]
    names = [propose(chain, DAVE, change) for change in changes]
    for name in names:
        vote(chain, DAVE, name)
    chain.mine_to(get_proposal(chain, names[-1]).close_height)
    assert len({get_proposal(chain, name).effect_height for name in names}) == 1
    before = chain.account(DAVE).balance
    chain.mine_to(get_proposal(chain, names[0]).effect_height)
    statuses = [get_proposal(chain, name).status for name in names]
    assert statuses == [ProposalStatus.ENACTED, ProposalStatus.LAPSED] * 2
    assert get_values(chain).treasury_bp == 1_250
    assert [chain.account(key).balance for key in (BOB, CAROL)] == [FUNDS + quarter, FUNDS]
    assert chain.account(DAVE).balance == before, "its deposits were back when its proposals had been heard"


def test_only_so_many_proposals_are_live_at_a_time() -> None:
    chain = make_staked()
    names = []
    for _ in range(2):
        terms = [ProposeChange(f"change {number}", RAISE) for number in range(LIVE_MAX // 2)]
        nonce = chain.account(BOB).nonce
        chain.mine(*(chain.sign(BOB, each, nonce=nonce + place) for place, each in enumerate(terms)))
        names += [
            compute_proposal_id(chain.context.chain_id, BOB.public_key, nonce + place, each)
            for place, each in enumerate(terms)
        ]
    assert len(set(names)) == LIVE_MAX
    assert refuse_action(chain, DAVE, ProposeChange("one more", RAISE)) == "agenda-full"
    chain.mine_to(get_proposal(chain, names[0]).close_height)
    assert len(chain.view.get_existing(AGENDA_KEY).live) == LIVE_MAX // 2
    later = propose(chain, DAVE)
    chain.mine_to(get_proposal(chain, later).close_height)
    agenda = chain.view.get_existing(AGENDA_KEY)
    assert (agenda.live, agenda.decided) == ((), (*names[-DECIDED_MAX + 1 :], later))


def test_equal_proposals_have_names_of_their_own() -> None:
    chain, other = make_staked(), LedgerChain(replace(make_genesis(SCARCE), network="another"))
    assert propose(chain, BOB) != propose(chain, BOB)
    terms = ProposeChange("a change", RAISE)
    names = [compute_proposal_id(each.context.chain_id, BOB.public_key, 0, terms) for each in (chain, other)]
    assert len(set(names)) == 2, "a name belongs to one chain"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"voting_blocks": 0}, "genesis-voting"),
        ({"enactment_blocks": 0}, "genesis-voting"),
        ({"quorum_bp": 0}, "genesis-quorum"),
        ({"quorum_bp": 10_001}, "genesis-quorum"),
        ({"treasury_bp": 10_001}, "genesis-treasury"),
    ],
)
def test_a_genesis_on_which_no_vote_could_be_held_is_refused(changes: dict[str, int], rule: str) -> None:
    with pytest.raises(InvalidBlock) as refusal:
        validate_genesis(make_genesis(replace(PARAMETERS, **changes)))
    assert refusal.value.rule == rule
