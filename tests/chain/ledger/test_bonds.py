"""Bonds and evidence of equivocation: what burns, who is paid, what a miner without a bond may do; threats 51, 59."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.codec import decode, encode
from chain.errors import InvalidBlock
from chain.genesis import Parameters
from chain.header import Header, compute_header_hash, compute_signing_hash, compute_trunk_hash
from chain.ledger.bonds import NOTHING, REPORTER_PERCENT, Forfeit, get_forfeit, make_report
from chain.ledger.context import EquivocationPunished, RewardDecided
from chain.ledger.keys import SUPPLY_KEY, locked_reward_key, miner_key, round_contributions_key
from chain.ledger.records import ContributionKey, Miner
from chain.ledger.subsidy import compute_subsidy_split
from chain.ledger.transition import ContributionStatus
from chain.primitives import ZERO_HASH, Hash, PublicKey, Signature
from chain.signature import SigningKey
from chain.transaction import (
    TRANSACTION_BYTES_MAX,
    Action,
    PostBond,
    ReportEquivocation,
    Transaction,
    Transfer,
)
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, PARAMETERS, LedgerChain, make_genesis, settle_round

BOND = PARAMETERS.bond
MINERS = (ALICE, BOB, CAROL)


def reward(height: int) -> int:
    return compute_subsidy_split(height, PARAMETERS).reward


REWARD = reward(1)


def burned(chain: LedgerChain) -> int:
    return chain.view.get_existing(SUPPLY_KEY).burned


def bond(chain: LedgerChain, key: SigningKey) -> int:
    return chain.view.get_existing(miner_key(key.public_key)).bond


def forfeit(chain: LedgerChain, header: Header) -> Forfeit:
    """Return what a report of `header` in the next block would find."""
    return get_forfeit(chain.context.parameters, chain.view, header, chain.height + 1)


def refuse(chain: LedgerChain, action: Action, key: SigningKey = DAVE) -> str:
    with pytest.raises(InvalidBlock) as refusal:
        chain.execute(chain.draft(CAROL), chain.sign(key, action))
    return refusal.value.rule


def make_equivocated() -> LedgerChain:
    """Return a chain of two blocks, the first of which Bob has mined."""
    chain = LedgerChain()
    chain.mine(miner=BOB)
    chain.mine(miner=CAROL)
    return chain


def test_threat_51_two_headers_for_one_ticket_cost_reward_and_bond() -> None:
    chain = make_equivocated()
    effects = chain.mine(chain.sign(DAVE, chain.report(BOB, 1)), miner=CAROL)
    total = BOND + REWARD
    paid = total // 10
    assert chain.account(DAVE).balance == FUNDS + paid
    assert (burned(chain), bond(chain, BOB)) == (total - paid, 0)
    assert 10 * (total - paid) >= 9 * total
    assert chain.view.get_existing(locked_reward_key(1)).amount == 0
    expected = EquivocationPunished(1, BOB.public_key, total - paid, DAVE.public_key, paid)
    assert [event for event in effects.events if isinstance(event, EquivocationPunished)] == [expected]


@pytest.mark.parametrize("atoms", [1, 9, 10, 11, 19, 99])
def test_what_does_not_divide_burns(atoms: int) -> None:
    chain = LedgerChain(make_genesis(Parameters(bond=atoms, subsidy=0)))
    chain.mine(miner=BOB)
    chain.mine(chain.sign(DAVE, chain.report(BOB, 1)), miner=CAROL)
    assert chain.account(DAVE).balance - FUNDS == atoms * REPORTER_PERCENT // 100
    assert 10 * burned(chain) >= 9 * atoms


def test_an_equivocation_is_paid_for_once() -> None:
    chain = make_equivocated()
    report = chain.report(BOB, 1)
    third = chain.sign_again(BOB, 1, 3)
    others = [make_report(header, third, ALICE.public_key) for header in (report.first, report.second)]
    chain.mine(chain.sign(DAVE, report), miner=CAROL)
    for again in (report, *others):
        assert refuse(chain, again) == "evidence-spent"


def test_a_second_report_in_the_same_block_is_refused() -> None:
    chain = make_equivocated()
    reports = chain.sign(DAVE, chain.report(BOB, 1)), chain.sign(ALICE, chain.report(BOB, 1, ALICE))
    assert chain.assemble(*reports, miner=CAROL) == reports[:1]


def test_every_reward_that_is_still_locked_answers_for_itself() -> None:
    chain = LedgerChain()
    for _ in range(3):
        chain.mine(miner=BOB)
    chain.mine(chain.sign(DAVE, chain.report(BOB, 2)), miner=CAROL)
    before = burned(chain)
    chain.mine(chain.sign(DAVE, chain.report(BOB, 3)), miner=CAROL)
    assert burned(chain) - before == reward(3) - reward(3) // 10
    assert chain.view.get_existing(locked_reward_key(1)).amount == REWARD


def test_a_side_branch_costs_the_bond_alone() -> None:
    chain = make_equivocated()
    chain.mine(chain.sign(DAVE, chain.report(ALICE, 1)), miner=CAROL)
    assert (bond(chain, ALICE), burned(chain)) == (0, BOND - BOND // 10)
    assert chain.view.get_existing(locked_reward_key(1)).amount == REWARD, "it is Bob's"


def test_an_old_equivocation_costs_the_bond_after_its_reward_is_paid() -> None:
    chain = LedgerChain()
    settle_round(chain, BOB, miner=BOB)
    chain.mine_to(30, miner=CAROL)
    balance = chain.account(BOB).balance
    assert forfeit(chain, chain.sign_again(BOB, 4, 1)).reward == 0
    chain.mine(chain.sign(DAVE, chain.report(BOB, 4)), miner=CAROL)
    assert (bond(chain, BOB), chain.account(BOB).balance) == (0, balance)


def test_other_rewards_and_contributions_of_the_miner_go_on() -> None:
    chain = LedgerChain()
    chain.mine(chain.sign(BOB, chain.commit(BOB)), miner=BOB)
    chain.mine(miner=BOB)
    chain.mine(chain.sign(DAVE, chain.report(BOB, 1)), miner=CAROL)
    chain.mine(chain.sign(BOB, chain.prove(BOB)), miner=CAROL)
    chain.mine_to(8, miner=CAROL)
    effects = chain.mine(miner=CAROL)
    decided = [event for event in effects.events if isinstance(event, RewardDecided) and event.miner == BOB.public_key]
    assert [(event.height, event.amount, event.is_paid) for event in decided] == [(1, 0, False), (2, reward(2), True)]
    settled = chain.contribution(BOB, round_number=0)
    assert settled.status is ContributionStatus.SETTLED
    assert chain.account(BOB).balance == FUNDS + reward(2) + settled.reward


def change(header: Header, key: SigningKey, chain: LedgerChain, **fields: object) -> Header:
    foliage = replace(header.foliage, **fields)  # type: ignore[arg-type]  # any field of foliage
    return Header(header.trunk, foliage, key.sign(compute_signing_hash(chain.context.chain_id, foliage)))


def make_forgeries(chain: LedgerChain, good: ReportEquivocation) -> dict[str, tuple[Header, Header]]:
    """Return pairs that prove nothing, by what is wrong with them; in order of their hashes."""
    first, second = good.first, good.second
    trunk = replace(second.trunk, total_work=second.trunk.total_work + 1)
    unbound = change(second, BOB, chain, trunk_hash=Hash(b"\x01" * 32))
    pairs = {
        "unsigned": (replace(first, signature=Signature(bytes(64))), second),
        "signed by another": (first, change(second, ALICE, chain)),
        "signed for another chain": (first, replace(second, signature=BOB.sign(ZERO_HASH))),
        "another miner": (first, change(second, ALICE, chain, miner=ALICE.public_key)),
        "another height": (first, change(second, BOB, chain, height=2)),
        "another parent": (first, change(second, BOB, chain, parent_hash=Hash(b"\x01" * 32))),
        "another trunk": (
            first,
            change(replace(second, trunk=trunk), BOB, chain, trunk_hash=compute_trunk_hash(trunk)),
        ),
        "a trunk not named": (first, unbound),
        "no trunk named": (change(first, BOB, chain, trunk_hash=Hash(b"\x01" * 32)), unbound),
    }
    ordered = {name: sorted(pair, key=compute_header_hash) for name, pair in pairs.items()}
    return {name: (pair[0], pair[1]) for name, pair in ordered.items()}


def test_forged_evidence_is_refused() -> None:
    chain = make_equivocated()
    good = chain.report(BOB, 1)
    rules = {name: refuse(chain, ReportEquivocation(*pair, DAVE.public_key)) for name, pair in
             make_forgeries(chain, good).items()}  # fmt: skip
    assert rules == {
        "unsigned": "evidence-signature",
        "signed by another": "evidence-signature",
        "signed for another chain": "evidence-signature",
        "another miner": "evidence-place",
        "another height": "evidence-place",
        "another parent": "evidence-place",
        "another trunk": "evidence-place",
        "a trunk not named": "evidence-trunk",
        "no trunk named": "evidence-trunk",
    }
    assert refuse(chain, replace(good, first=good.second, second=good.first)) == "evidence-order"
    assert refuse(chain, replace(good, second=good.first)) == "evidence-order"
    assert refuse(chain, replace(good, second=replace(good.first, signature=good.second.signature))) == "evidence-order"
    assert refuse(chain, replace(good, recipient=PublicKey(bytes(32)))) == "recipient"
    ahead = [change(header, BOB, chain, height=3) for header in (good.first, good.second)]
    low, high = sorted(ahead, key=compute_header_hash)
    assert refuse(chain, ReportEquivocation(low, high, DAVE.public_key)) == "evidence-height"
    stranger = [change(header, DAVE, chain, miner=DAVE.public_key) for header in (good.first, good.second)]
    low, high = sorted(stranger, key=compute_header_hash)
    assert refuse(chain, ReportEquivocation(low, high, DAVE.public_key)) == "evidence-spent"
    chain.execute(chain.draft(CAROL), chain.sign(DAVE, good))


def test_a_report_has_one_encoding() -> None:
    chain = make_equivocated()
    transaction = chain.sign(DAVE, chain.report(BOB, 1))
    data = encode(transaction)
    assert decode(Transaction, data, TRANSACTION_BYTES_MAX) == transaction
    assert len(data) < 2048


def test_a_miner_without_a_bond_neither_mines_nor_commits_until_it_posts_another() -> None:
    chain = make_equivocated()
    chain.mine(chain.sign(DAVE, chain.report(BOB, 1)), miner=CAROL)
    with pytest.raises(InvalidBlock) as refusal:
        chain.execute(chain.draft(BOB))
    assert refusal.value.rule == "segment-bond"
    assert refuse(chain, chain.commit(BOB), BOB) == "segment-bond"
    chain.mine(chain.sign(BOB, PostBond(BOND)), miner=CAROL)
    assert (bond(chain, BOB), chain.account(BOB).balance) == (BOND, FUNDS - BOND)
    # The key is as good as a new one: its segments hang on beacons that came after the bond.
    for height in (5, 6):
        with pytest.raises(InvalidBlock) as refusal:
            chain.execute(chain.draft(BOB))
        assert (refusal.value.rule, chain.height + 1) == ("segment-anchor", height)
        chain.mine(miner=CAROL)
    chain.mine(miner=BOB, ticket=chain.ticket(BOB, anchor=5))
    assert refuse(chain, chain.report(BOB, 1)) == "evidence-spent", "the new bond does not answer for the old height"
    chain.mine(chain.sign(DAVE, chain.report(BOB, 6)), miner=CAROL)
    assert bond(chain, BOB) == 0


def test_whoever_posts_a_bond_is_a_miner() -> None:
    chain = LedgerChain()
    assert refuse(chain, chain.commit(DAVE), DAVE) == "segment-miner"
    chain.mine(chain.sign(DAVE, PostBond(BOND)))
    assert chain.view.get_existing(miner_key(DAVE.public_key)) == Miner(1, 0, BOND, 0)
    assert chain.account(DAVE).balance == FUNDS - BOND
    # Whoever made block 1 knew its beacon when it chose whose bond to take in.
    assert refuse(chain, chain.commit(DAVE, anchor=1), DAVE) == "segment-anchor"
    chain.mine()
    chain.mine(chain.sign(DAVE, chain.commit(DAVE, anchor=2)))
    chain.mine(miner=DAVE, ticket=chain.ticket(DAVE, anchor=2))
    chain.mine_to(5)
    chain.mine(chain.sign(DAVE, chain.prove(DAVE)))
    chain.mine_to(PARAMETERS.round_blocks)
    assert chain.contribution(DAVE, round_number=0).status is ContributionStatus.SETTLED
    assert chain.view.get_existing(miner_key(DAVE.public_key)).settled_segments == 1
    key = ContributionKey(DAVE.public_key, 0)
    assert chain.view.get_existing(round_contributions_key(chain.context.task_id, 0)).keys == (key,)
    chain.mine(chain.sign(ALICE, chain.report(DAVE, 4)))
    assert bond(chain, DAVE) == 0


def test_a_bond_is_posted_whole_and_once() -> None:
    chain = make_equivocated()
    assert refuse(chain, PostBond(BOND), ALICE) == "bond-held"
    assert refuse(chain, PostBond(BOND + 1), DAVE) == "bond-amount"
    chain.mine(chain.sign(DAVE, chain.report(BOB, 1)), miner=CAROL)
    assert refuse(chain, PostBond(BOND - 1), BOB) == "bond-amount"
    chain.mine(chain.sign(BOB, Transfer(DAVE.public_key, FUNDS)), miner=CAROL)
    assert refuse(chain, PostBond(BOND), BOB) == "balance"


Step = tuple[int, int, int]


def play(chain: LedgerChain, step: Step) -> None:
    """Append a block by a miner that is bonded, with a report, a bond, a commit or a proof that may or may not hold."""
    kind, who, back = step
    key, height = MINERS[who], max(1, chain.height - back)
    actions: dict[int, Callable[[], Action]] = {
        0: lambda: chain.report(key, height),
        1: lambda: PostBond(BOND),
        2: lambda: chain.commit(key),
        3: lambda: chain.prove(key),
        4: lambda: Transfer(DAVE.public_key, 1 + back),
    }
    is_committed = any(entry == (key.public_key, 0) for entry in
                       ((found.miner, found.index) for found in chain.task.contributions))  # fmt: skip
    made = actions[kind]() if kind != 3 or is_committed else Transfer(DAVE.public_key, 7)
    sender = DAVE if kind == 0 else key
    oldest = chain.view.get_existing(miner_key(key.public_key)).registered_height
    able = bond(chain, key) == BOND and (oldest < chain.task.start_height or not oldest)
    chain.assemble(chain.sign(sender, made, fee=back), miner=key if able and chain.height else CAROL)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 12)), min_size=6, max_size=30))
@settings(max_examples=40, deadline=None)
def test_any_evidence_conserves_atoms_and_burns_nine_tenths(steps: list[Step]) -> None:
    """Carol is honest and mines when others may not; `LedgerChain` adds up all atoms after every block."""
    chain = LedgerChain()
    chain.mine(miner=CAROL)
    for step in steps:
        kind, who, back = step
        header = chain.sign_again(MINERS[who], max(1, chain.height - back), 1)
        held, before = forfeit(chain, header), chain.account(DAVE).balance
        is_round_end = (chain.height + 1) % PARAMETERS.round_blocks == 0
        was_burned = burned(chain)
        play(chain, step)
        if kind == 0 and held.bond + held.reward and not is_round_end:
            total = held.bond + held.reward
            assert burned(chain) - was_burned >= total - total // 10
            assert chain.account(DAVE).balance == before + total // 10 - back
            assert forfeit(chain, header) == NOTHING
