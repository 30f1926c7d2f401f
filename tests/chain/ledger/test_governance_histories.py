"""Random histories of stake, proposals and votes, with reorganisations, against books that count by hand.

After every block atoms add up, values stay within their bounds, and the state says what the books say. A branch that
is left and replayed from genesis has the roots it had.
"""

from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from benchmarks.lab.economy.ballots import LIVE, Ballots
from chain.errors import InvalidBlock
from chain.genesis import Allocation
from chain.ledger.apply import make_draft
from chain.ledger.bounds import BOUNDS, get_context_in_force, make_values
from chain.ledger.governance_records import Choice, Proposal, ProposalStatus, Stake
from chain.ledger.keys import AGENDA_KEY, PROPOSAL_PREFIX, STAKE_PREFIX, SUPPLY_KEY
from chain.ledger.proposals import compute_proposal_id
from chain.ledger.subsidy import compute_subsidy_split
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
    UnlockStake,
)
from tests.support.governance import COIN, get_locked, get_proposal, get_values, spend
from tests.support.ledger import FUNDS, PARAMETERS, LedgerChain, make_genesis

KEYS = tuple(SigningKey(bytes([number]) * 32) for number in range(41, 45))
SHORT = replace(
    PARAMETERS,
    commit_blocks=1,
    challenge_delay=1,
    proof_window=1,
    audit_blocks=1,
    voting_blocks=4,
    enactment_blocks=2,
    subsidy_half_life=20,
)
"""Rounds of four blocks, and a treasury that soon grows no more."""

players = st.sampled_from(KEYS)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Draw a change that no rule but those of the state can refuse."""
    if draw(st.integers(0, 2)) == 0:
        return spend(draw(players), draw(st.sampled_from((1, COIN // 2, COIN, 5 * COIN, 100 * COIN))))
    bound = draw(st.sampled_from(BOUNDS))
    base = asdict(make_values(SHORT))[bound.name]
    value = base * draw(st.sampled_from((50, 75, 80, 99, 100, 101, 120, 125, 150, 160))) // 100
    return ChangeParameter(bound.name, min(max(value, bound.lowest), bound.highest))


@dataclass
class Oracle:
    """What is voted, and the atoms that go with it."""

    ballots: Ballots
    spent: dict[PublicKey, int] = field(default_factory=dict)
    treasury: int = 0

    def pay(self, account: PublicKey, amount: int) -> None:
        """Note that an account got `amount` atoms, or gave them where it is below zero."""
        self.spent[account] = self.spent.get(account, 0) + amount

    def enact(self, change: Change) -> None:
        """Pay what a change in force says."""
        if isinstance(change, SpendTreasury):
            self.treasury -= change.amount
            self.pay(change.recipient, change.amount)


class GovernanceMachine(RuleBasedStateMachine):
    """A chain and its oracle; every rule mines one block or goes back some."""

    def __init__(self) -> None:
        super().__init__()
        genesis = make_genesis(SHORT)
        allocations = (*genesis.allocations, *(Allocation(key.public_key, FUNDS) for key in KEYS))
        self.chain = LedgerChain(replace(genesis, allocations=allocations))
        ballots = Ballots(asdict(make_values(SHORT)), SHORT.voting_blocks, SHORT.enactment_blocks, 4)
        self.oracle = Oracle(ballots)
        self.past = [(self.chain.root, deepcopy(self.oracle))]

    @property
    def ballots(self) -> Ballots:
        return self.oracle.ballots

    def _mine(self, key: SigningKey | None = None, action: Action | None = None) -> None:
        parameters = get_context_in_force(self.chain.context, self.chain.view).parameters
        self.chain.mine(*(() if key is None or action is None else (self.chain.sign(key, action),)))
        height = self.chain.height
        self.oracle.treasury += compute_subsidy_split(height, parameters).treasury
        for name, ballot in self.ballots.list_due(height):
            if ballot.status == "ACCEPTED":
                if self.ballots.enact(ballot, self.oracle.treasury, {}):
                    self.oracle.enact(ballot.change)
            elif self.ballots.close(ballot, -(-get_proposal(self.chain, name).circulating * SHORT.quorum_bp // 10_000)):
                self.oracle.pay(ballot.proposer, SHORT.proposal_deposit)
        self.past.append((self.chain.root, deepcopy(self.oracle)))

    def _refuse(self, key: SigningKey, action: Action, rule_name: str) -> None:
        with pytest.raises(InvalidBlock) as refusal:
            self.chain.execute(self.chain.draft(), self.chain.sign(key, action))
        assert refusal.value.rule == rule_name

    @rule(blocks=st.integers(1, 4))
    def wait(self, blocks: int) -> None:
        for _ in range(blocks):
            self._mine()

    @rule(key=players, coins=st.sampled_from((1, 300, 600, 900)))
    def lock(self, key: SigningKey, coins: int) -> None:
        action = LockStake(coins * COIN)
        if self.chain.account(key).balance < action.amount:
            self._refuse(key, action, "balance")
            return
        self.ballots.lock(key.public_key, action.amount, self.chain.height + 1)
        self.oracle.pay(key.public_key, -action.amount)
        self._mine(key, action)

    @rule(key=players, part=st.sampled_from((1, 2, 2, 3)))
    def unlock(self, key: SigningKey, part: int) -> None:
        account, height = key.public_key, self.chain.height + 1
        stake = self.ballots.get_stake(account)
        action = UnlockStake(max(1, (stake.leaving or stake.amount) * part // 2))
        if problem := self.ballots.find_unlock_problem(account, action.amount, height):
            self._refuse(key, action, problem)
        else:
            self.oracle.pay(account, self.ballots.unlock(account, action.amount, height))
            self._mine(key, action)

    @rule(key=players, change=changes())
    def propose(self, key: SigningKey, change: Change) -> None:
        terms, account = ProposeChange("a change", change), self.chain.account(key)
        if account.balance < SHORT.proposal_deposit:
            self._refuse(key, terms, "balance")
        elif len(self.ballots.list_live()) == LIVE:
            self._refuse(key, terms, "agenda-full")
        elif problem := self.ballots.find_problem(change, self.oracle.treasury, {}):
            self._refuse(key, terms, problem)
        else:
            name = compute_proposal_id(self.chain.context.chain_id, key.public_key, account.nonce, terms)
            self.ballots.propose(name, key.public_key, change, self.chain.height + 1)
            self.oracle.pay(key.public_key, -SHORT.proposal_deposit)
            self._mine(key, terms)

    @precondition(lambda self: self.ballots.proposals)
    @rule(data=st.data(), key=players, choice=st.sampled_from((Choice.YES, Choice.YES, Choice.NO, Choice.ABSTAIN)))
    def vote(self, data: st.DataObject, key: SigningKey, choice: Choice) -> None:
        open_names = [name for name, each in self.ballots.proposals.items() if each.status == "OPEN"]
        self.cast(key, data.draw(st.sampled_from(open_names or list(self.ballots.proposals))), choice)

    def cast(self, key: SigningKey, name: Hash, choice: Choice) -> None:
        action = CastVote(name, int(choice))
        problem = self.ballots.vote(key.public_key, name, choice.name)
        if problem is None:
            self._mine(key, action)
        else:
            self._refuse(key, action, problem)

    @precondition(lambda self: len(self.past) > 2)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        """Go back some blocks: what is left, replayed from genesis, has the roots it had."""
        height = self.chain.height - data.draw(st.integers(1, min(6, self.chain.height - 1)))
        replayed = LedgerChain(self.chain.genesis)
        replayed.content = self.chain.content
        for block, (root, _) in zip(self.chain.blocks[:height], self.past[1:], strict=False):
            effects = replayed.apply(block)
            replayed._advance(make_draft(block), block, effects)
            assert replayed.root == root
        self.chain, self.past = replayed, self.past[: height + 1]
        self.oracle = deepcopy(self.past[height][1])

    @invariant()
    def values_are_those_that_were_enacted(self) -> None:
        found = asdict(get_values(self.chain))
        assert found == self.ballots.values
        assert all(bound.lowest <= found[bound.name] <= bound.highest for bound in BOUNDS)

    @invariant()
    def proposals_and_votes_are_counted_right(self) -> None:
        stored = {Hash(name): each for name, each in self.chain.view.iter_records(PROPOSAL_PREFIX, Proposal)}
        assert stored.keys() == self.ballots.proposals.keys()
        for name, expected in self.ballots.proposals.items():
            found = stored[name]
            assert found.status.name == expected.status
            counts = [expected.count(choice) for choice in ("YES", "NO", "ABSTAIN")]
            assert [found.yes, found.no, found.abstain] == counts
            assert found.deposit == (SHORT.proposal_deposit if found.status is ProposalStatus.OPEN else 0)
        live = {name for name, each in self.ballots.proposals.items() if each.is_live}
        assert {entry.name for entry in self.chain.view.get_existing(AGENDA_KEY).live} == live

    @invariant()
    def nobody_has_lost_or_gained_anything_else(self) -> None:
        for key in KEYS:
            stake, expected = get_locked(self.chain, key), self.ballots.get_stake(key.public_key)
            found = (stake.amount, stake.leaving, stake.release_height)
            assert found == (expected.amount, expected.leaving, expected.release)
            assert self.chain.account(key).balance == FUNDS + self.oracle.spent.get(key.public_key, 0)
        stakes = dict(self.chain.view.iter_records(STAKE_PREFIX, Stake))
        assert all(stake.amount + stake.leaving for stake in stakes.values())
        assert self.chain.view.get_existing(SUPPLY_KEY).treasury == self.oracle.treasury

    @invariant()
    def no_vote_is_decided_by_stake_that_could_have_left(self) -> None:
        """Who has voted still has locked what its votes on live proposals were cast with."""
        for proposal in self.ballots.list_live():
            for account, (_, weight) in proposal.votes.items():
                stake = self.ballots.get_stake(account)
                assert stake.amount + stake.leaving >= weight


GovernanceMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestGovernanceHistories = GovernanceMachine.TestCase


def test_the_machine_reaches_every_end_of_a_proposal() -> None:
    machine = GovernanceMachine()
    for key in KEYS[:2]:
        machine.lock(key, 900)
    cases = (
        (ChangeParameter("bond", 60 * COIN), Choice.YES, "ENACTED"),
        (ChangeParameter("bond", 25 * COIN), Choice.YES, "LAPSED"),
        (ChangeParameter("treasury_bp", 900), Choice.NO, "REJECTED"),
        (ChangeParameter("treasury_bp", 900), None, "EXPIRED"),
    )
    for change, choice, _ in cases:
        machine.propose(KEYS[2], change)
        if choice is not None:
            for key in KEYS[:2]:
                machine.cast(key, list(machine.ballots.proposals)[-1], choice)
    machine.wait(8)
    assert [each.status for each in machine.ballots.proposals.values()] == [status for _, _, status in cases]
    machine.proposals_and_votes_are_counted_right()
    machine.values_are_those_that_were_enacted()


def test_the_machine_sees_votes_that_are_cast_again_after_their_stake_has_changed() -> None:
    machine = GovernanceMachine()
    for key in KEYS[:2]:
        machine.lock(key, 600)
    machine.propose(KEYS[2], ChangeParameter("bond", 60 * COIN))
    (name,) = machine.ballots.proposals
    machine.cast(KEYS[0], name, Choice.YES)
    machine.lock(KEYS[0], 300)
    machine.cast(KEYS[0], name, Choice.NO)
    machine.proposals_and_votes_are_counted_right()
    machine.nobody_has_lost_or_gained_anything_else()
    assert get_proposal(machine.chain, name).no == 600 * COIN
