"""The life of a contribution, rule by rule: commit, challenge, proof, expiry, execution; threats 14, 15, 16, 21."""

from dataclasses import replace

import pytest

from chain.errors import InvalidBlock, InvalidTransaction, MissingData
from chain.genesis import Parameters
from chain.ledger.contributions import compute_challenge
from chain.ledger.keys import BEACONS_KEPT, SUPPLY_KEY, miner_key
from chain.ledger.transition import TRANSITIONS, ContributionEvent, ContributionStatus, compute_next_status
from chain.primitives import ZERO_HASH, Hash
from chain.signature import SigningKey
from chain.transaction import Action, ProveContribution, Sidecar
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, PARAMETERS, LedgerChain, make_genesis, settle_round

DEPOSIT = PARAMETERS.deposit
S = ContributionStatus


def refuse(chain: LedgerChain, key: SigningKey, *actions: Action) -> str:
    """Return the rule by which the last of these actions of one sender makes a block invalid."""
    nonce = chain.account(key).nonce
    signed = [chain.sign(key, action, nonce=nonce + place) for place, action in enumerate(actions)]
    with pytest.raises(InvalidBlock) as refusal:
        chain.execute(chain.draft(), *signed)
    assert f"transaction {len(actions) - 1}:" in str(refusal.value)
    return refusal.value.rule


def burned(chain: LedgerChain) -> int:
    return chain.view.get_existing(SUPPLY_KEY).burned


def test_an_honest_contribution_walks_the_table_and_gets_its_deposit_back() -> None:
    chain = LedgerChain()
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    assert chain.account(BOB).balance == FUNDS - DEPOSIT
    assert (chain.contribution(BOB).status, chain.contribution(BOB).challenge) == (S.COMMITTED, ZERO_HASH)
    chain.mine()
    assert chain.contribution(BOB).status is S.COMMITTED
    chain.mine()
    drawn = chain.contribution(BOB)
    assert (drawn.status, drawn.commit_height) == (S.CHALLENGED, 1)
    assert drawn.challenge == compute_challenge(chain.beacon, replace(drawn, challenge=ZERO_HASH))
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    assert chain.contribution(BOB).status is S.PROVEN
    chain.mine_to(9)
    settled = chain.contribution(BOB, round_number=0)
    assert (settled.status, settled.deposit) == (S.SETTLED, 0)
    assert chain.account(BOB).balance == FUNDS + settled.reward
    assert chain.view.get_existing(miner_key(BOB.public_key)).settled_segments == 1
    assert (chain.task.round, chain.task.start_height, chain.task.contributions) == (1, 9, ())


def test_the_table_has_no_other_steps() -> None:
    for status in ContributionStatus:
        for event in ContributionEvent:
            if (status, event) not in TRANSITIONS:
                with pytest.raises(InvalidTransaction) as refusal:
                    compute_next_status(status, event)
                assert refusal.value.rule == "contribution-status"


def test_commits_stand_only_in_their_window() -> None:
    chain = LedgerChain()
    chain.mine_to(3)
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    assert refuse(chain, CAROL, chain.commit(CAROL)) == "commit-window"
    chain.mine_to(9)
    chain.mine(chain.sign(CAROL, chain.commit(CAROL)))
    chain.mine_to(13)
    assert refuse(chain, BOB, chain.commit(BOB)) == "commit-window"


def test_a_commit_names_this_round_and_task() -> None:
    chain = LedgerChain()
    commit = chain.commit(BOB)
    assert refuse(chain, BOB, replace(commit, task=Hash(bytes(32)))) == "task"
    assert refuse(chain, BOB, replace(commit, round=1)) == "round"
    chain.mine_to(9)
    assert refuse(chain, BOB, commit) == "round", "a trace of an earlier round does not count again"


def test_anchors_are_no_older_than_the_round_allows_and_no_newer_than_the_parent() -> None:
    chain = LedgerChain()
    chain.mine_to(11)
    assert chain.task.start_height == 9
    for anchor, rule in [(7, "segment-anchor"), (12, "segment-anchor")]:
        assert refuse(chain, BOB, replace(chain.commit(BOB), anchor_height=anchor)) == rule
    chain.mine(chain.sign(BOB, chain.commit(BOB, anchor=8)), chain.sign(CAROL, chain.commit(CAROL, anchor=11)))
    assert chain.contribution(BOB).seed != chain.contribution(CAROL).seed


def test_a_segment_is_committed_once_by_its_registered_miner_below_the_cap() -> None:
    chain = LedgerChain()
    assert refuse(chain, DAVE, chain.commit(DAVE)) == "segment-miner"
    assert refuse(chain, BOB, chain.commit(BOB, index=2)) == "segment-index"
    assert refuse(chain, BOB, chain.commit(BOB), chain.commit(BOB)) == "commit-duplicate"
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    assert refuse(chain, BOB, chain.commit(BOB, anchor=1)) == "commit-duplicate"
    chain.mine(chain.sign(BOB, chain.commit(BOB, index=1)))
    assert [key.index for key in chain.task.contributions] == [0, 1]


def test_a_deposit_must_be_there() -> None:
    chain = LedgerChain(make_genesis(Parameters(deposit=FUNDS + 1)))
    assert refuse(chain, BOB, chain.commit(BOB)) == "balance"


def test_block_data_must_be_at_hand_fit_and_agree() -> None:
    chain = LedgerChain()
    commit = chain.commit(BOB)
    assert refuse(chain, BOB, replace(commit, trace_root=Hash(bytes(32)))) == "sidecar-roots"
    with pytest.raises(MissingData) as absence:
        chain.execute(chain.draft(), chain.sign(BOB, replace(commit, sidecar_hash=Hash(b"?" * 32))))
    assert absence.value.hashes == (b"?" * 32,)
    big = Sidecar(bytes(600 * 1024), b"delta")
    assert refuse(chain, BOB, chain.commit(BOB, sidecar=big)) == "sidecar-size"


def test_a_round_and_a_block_hold_so_many_and_no_more() -> None:
    chain = LedgerChain(make_genesis(Parameters(contributions_per_round=1)))
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    assert refuse(chain, CAROL, chain.commit(CAROL)) == "round-full"
    narrow = LedgerChain(make_genesis(Parameters(sidecars_per_block=1)))
    commits = [narrow.sign(key, narrow.commit(key)) for key in (BOB, CAROL)]
    with pytest.raises(InvalidBlock) as refusal:
        narrow.execute(narrow.draft(), *commits)
    assert refusal.value.rule == "block-sidecars"
    assert narrow.assemble(*commits) == (commits[0],)


def test_openings_come_after_the_challenge_and_before_the_window_closes() -> None:
    chain = LedgerChain()
    unknown = ProveContribution(chain.context.task_id, 0, 0, (b"opening",))
    assert refuse(chain, BOB, unknown) == "prove-unknown"
    chain.mine(chain.sign(BOB, chain.commit(BOB)), chain.sign(CAROL, chain.commit(CAROL)))
    assert refuse(chain, BOB, chain.prove(BOB)) == "contribution-status", "nothing is drawn yet"
    chain.mine_to(4)
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    assert refuse(chain, BOB, chain.prove(BOB)) == "contribution-status", "proven already"
    assert chain.contribution(CAROL).status is S.EXPIRED
    assert refuse(chain, CAROL, chain.prove(CAROL)) == "contribution-status", "too late"


def test_openings_must_hold_where_the_beacon_drew() -> None:
    chain = LedgerChain()
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(3)
    prove = chain.prove(BOB)
    assert refuse(chain, BOB, replace(prove, openings=(b"elsewhere",))) == "opening-place"
    assert refuse(chain, BOB, replace(prove, task=Hash(bytes(32)))) == "task"
    assert refuse(chain, BOB, replace(prove, round=3)) == "round"
    assert refuse(chain, CAROL, prove) == "prove-unknown", "nobody proves for another"


def test_an_unproven_contribution_expires_and_its_deposit_burns() -> None:
    chain = LedgerChain()
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(4)
    assert (chain.contribution(BOB).status, burned(chain)) == (S.CHALLENGED, 0)
    chain.mine()
    assert (chain.contribution(BOB).status, chain.contribution(BOB).deposit) == (S.EXPIRED, 0)
    assert burned(chain) == DEPOSIT
    chain.mine_to(9)
    assert chain.account(BOB).balance == FUNDS - DEPOSIT


def test_a_copied_trace_proves_nothing_for_another_miner() -> None:
    chain = LedgerChain()
    original = chain.commit(BOB)
    copied = replace(original, seed=chain.segment(CAROL).seed)
    assert refuse(chain, CAROL, original) == "commit-seed"
    chain.mine(chain.sign(CAROL, copied), chain.sign(BOB, original))
    assert chain.contribution(CAROL).seed != chain.contribution(BOB).seed
    chain.mine_to(3)
    assert refuse(chain, CAROL, chain.prove(CAROL)) == "opening-op"
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    chain.mine_to(9)
    statuses = [chain.contribution(key, round_number=0).status for key in (BOB, CAROL)]
    assert statuses == [S.SETTLED, S.EXPIRED]


def test_a_commit_is_of_one_branch_alone() -> None:
    """Another branch has another beacon at the anchor's height: there the segment would be a forgery."""
    here, there = LedgerChain(), LedgerChain()
    here.mine()
    there.mine(ticket=replace(there.ticket(ALICE), digest=Hash(b"\x01" * 32)))
    for chain in (here, there):
        chain.mine()
    commit = here.commit(BOB, anchor=1)
    there.content.add(here.content.get_sidecar(commit.sidecar_hash))
    assert refuse(there, BOB, commit) == "commit-seed"
    assert refuse(there, BOB, replace(commit, anchor_height=0)) == "commit-seed"
    here.mine(here.sign(BOB, commit))
    assert here.contribution(BOB).seed == commit.seed


def test_a_flawed_segment_that_passes_its_openings_is_slashed_and_unpaid() -> None:
    chain = LedgerChain()
    flawed = chain.training.make_sidecar(chain.segment(BOB), flaw=bytes(32))
    chain.mine(chain.sign(BOB, chain.commit(BOB, sidecar=flawed)), chain.sign(CAROL, chain.commit(CAROL)))
    chain.mine_to(3)
    chain.mine(*(chain.sign(key, chain.prove(key)) for key in (BOB, CAROL)))
    chain.mine(chain.sign(DAVE, chain.demand(BOB)))
    before = chain.view.get_existing(SUPPLY_KEY).burned
    chain.mine_to(9, miner=CAROL)
    slashed = chain.contribution(BOB, round_number=0)
    assert (slashed.status, slashed.deposit, slashed.reward) == (S.SLASHED, 0, 0)
    assert chain.account(BOB).balance == FUNDS - DEPOSIT
    assert chain.account(DAVE).balance == FUNDS + DEPOSIT // 2
    assert burned(chain) - before >= DEPOSIT - DEPOSIT // 2
    assert chain.task.heldout_correct == 1, "only Carol's delta settled"


def test_who_included_commits_in_which_order_leaves_no_trace() -> None:
    forward, backward = LedgerChain(), LedgerChain()
    for chain, keys in ((forward, (ALICE, BOB, CAROL)), (backward, (CAROL, BOB, ALICE))):
        settle_round(chain, *keys)
    assert forward.root == backward.root


def test_the_beacon_ring_holds_the_oldest_anchor_of_the_longest_commit_window() -> None:
    chain = LedgerChain(make_genesis(Parameters(commit_blocks=BEACONS_KEPT - 2)))
    chain.mine_to(35 + 29)
    start = chain.task.start_height
    assert (start, chain.height) == (35, start + BEACONS_KEPT - 3)
    chain.mine(chain.sign(BOB, chain.commit(BOB, anchor=start - 1)))
    assert chain.contribution(BOB).anchor_height == start - 1
