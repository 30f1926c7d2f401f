"""Audits: who is drawn, what a proof has to be, what it pays, and what it costs to vouch for what falls."""

from dataclasses import replace
from typing import Any

import pytest

from chain.dispute import AnswerDispute, DemandOpening, DemandStrip
from chain.errors import InvalidBlock
from chain.genesis import Parameters
from chain.ledger import audits as rules
from chain.ledger.audit_records import ActiveAuditor, Audit
from chain.ledger.auditors import compute_release_blocks
from chain.ledger.audits import draw_auditors
from chain.ledger.context import AuditChanged, AuditOutcome, Event, RewardDecided
from chain.ledger.keys import SUPPLY_KEY
from chain.ledger.pricing import compute_next_price
from chain.ledger.transition import ContributionStatus as S
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import Action
from tests.support.audits import AuditedChain
from tests.support.hash_training import SEGMENT_MACS
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, PARAMETERS, make_genesis, make_public_key

DEPOSIT, BOND, PENALTY = PARAMETERS.deposit, PARAMETERS.auditor_bond, PARAMETERS.audit_penalty
AUDIT_MACS = SEGMENT_MACS * PARAMETERS.audit_pay_bp // 10_000


def begin(*auditors: SigningKey, parameters: Parameters = PARAMETERS, flaw: bytes = b"") -> AuditedChain:
    """Return a chain whose second round holds Bob's segment, just assigned; `auditors` registered in the first."""
    chain = AuditedChain(make_genesis(parameters))
    chain.mine(*(chain.register(key) for key in auditors))
    chain.mine_to(parameters.round_blocks)
    sidecar = chain.training.make_sidecar(chain.segment(BOB), flaw=flaw)
    chain.mine(chain.sign(BOB, chain.commit(BOB, sidecar=sidecar)))
    chain.mine_to(chain.height + parameters.challenge_delay)
    return chain


def finish(chain: AuditedChain) -> tuple[Event, ...]:
    """Mine up to the end of the running round and return what happened in its last block."""
    chain.mine_to(chain.task.start_height + chain.context.parameters.round_blocks - 1)
    return chain.mine().events


def prove(chain: AuditedChain, *auditors: SigningKey) -> tuple[Event, ...]:
    """Open Bob's segment and prove its audits in one block."""
    audits = (chain.sign(key, chain.prove_audit(key, BOB)) for key in auditors)
    return chain.mine(chain.sign(BOB, chain.prove(BOB)), *audits).events


def refuse(chain: AuditedChain, key: SigningKey, action: Action) -> str:
    with pytest.raises(InvalidBlock) as refused:
        chain.execute(chain.draft(), chain.sign(key, action))
    return refused.value.rule


def outcomes(events: tuple[Event, ...]) -> list[tuple[AuditOutcome, bytes]]:
    return [(event.outcome, event.auditor) for event in events if isinstance(event, AuditChanged)]


def get_burned(chain: AuditedChain) -> int:
    return chain.view.get_existing(SUPPLY_KEY).burned


def test_the_challenge_of_a_segment_draws_its_auditor() -> None:
    chain = begin(DAVE)
    assert chain.audits(BOB) == (Audit(DAVE.public_key, 0),)
    events = chain.mine(chain.sign(BOB, chain.prove(BOB)), chain.sign(DAVE, chain.prove_audit(DAVE, BOB))).events
    assert outcomes(events) == [(AuditOutcome.PROVEN, DAVE.public_key)]
    assert chain.audits(BOB) == (Audit(DAVE.public_key, 1),)


def test_a_proven_audit_is_paid_from_the_pot_at_the_price_of_the_round() -> None:
    chain = begin(DAVE)
    prove(chain, DAVE)
    chain.mine_to(17)
    price, pot, before = chain.task.price, chain.task.pot, chain.account(DAVE).balance
    events = chain.mine().events
    pay = price * AUDIT_MACS >> 40
    assert outcomes(events) == [(AuditOutcome.PAID, DAVE.public_key)]
    assert chain.account(DAVE).balance - before == pay > 0
    assert chain.contribution(BOB, round_number=1).reward == price * SEGMENT_MACS >> 40
    subsidy = pot + PARAMETERS.subsidy * 45 // 100 - chain.task.pot - pay - (price * SEGMENT_MACS >> 40)
    assert 0 <= subsidy < PARAMETERS.subsidy // 1_000, "the block's own part of the subsidy, which shrinks by height"
    spent = chain.task.pot + pay + chain.contribution(BOB, round_number=1).reward
    assert chain.task.price == compute_next_price(price, spent, SEGMENT_MACS + AUDIT_MACS)
    assert chain.audits(BOB, round_number=1) == ()
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert (auditor.proven, auditor.paid, auditor.bond) == (1, pay, BOND)


def test_where_the_pot_is_too_small_audits_share_it_by_their_macs() -> None:
    dear = Parameters(first_price=1 << 60)
    chain = begin(DAVE, parameters=dear)
    prove(chain, DAVE)
    chain.mine_to(17)
    before = chain.account(DAVE).balance
    finish(chain)
    pay, reward = chain.account(DAVE).balance - before, chain.contribution(BOB, round_number=1).reward
    assert pay == pytest.approx(reward / 4, rel=1e-6)
    assert chain.task.pot <= 2, "all but what rounding leaves is spent, and never more"


def test_silence_costs_the_auditor_and_not_the_miner() -> None:
    chain = begin(DAVE)
    prove(chain)
    burned, before = get_burned(chain), chain.account(BOB).balance
    chain.mine_to(17)
    events = finish(chain)
    assert (AuditOutcome.MISSED, DAVE.public_key) in outcomes(events)
    assert chain.contribution(BOB, round_number=1).status is S.SETTLED
    assert chain.account(BOB).balance == before + DEPOSIT + chain.contribution(BOB, round_number=1).reward
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert (auditor.bond, auditor.missed) == (BOND - PENALTY, 1)
    # No block of this round had a true ticket of a settled segment: their rewards burn beside the penalty.
    rewards = [event.amount for event in events if isinstance(event, RewardDecided)]
    assert get_burned(chain) - burned == PENALTY + sum(rewards)
    assert chain.audits(BOB, round_number=1) == ()


def test_a_proof_ends_a_row_of_misses() -> None:
    chain = begin(DAVE)
    prove(chain)
    finish(chain)
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(chain.height + 2)
    prove(chain, DAVE)
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert (auditor.missed, auditor.proven) == (0, 1)


def test_nobody_owes_a_proof_of_what_expired() -> None:
    chain = begin(DAVE)
    finish(chain)
    assert chain.contribution(BOB, round_number=1).status is S.EXPIRED
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert (auditor.bond, auditor.missed) == (BOND, 0)
    assert chain.audits(BOB, round_number=1) == ()


def test_what_a_proof_has_to_be() -> None:
    chain = begin(DAVE)
    proof = chain.prove_audit(DAVE, BOB)
    assert refuse(chain, DAVE, replace(proof, task=Hash(bytes(32)))) == "task"
    assert refuse(chain, DAVE, replace(proof, round=0)) == "audit-late"
    assert refuse(chain, DAVE, replace(proof, index=1)) == "audit-unassigned"
    assert refuse(chain, CAROL, chain.prove_audit(CAROL, BOB)) == "audit-unassigned"
    assert refuse(chain, DAVE, replace(proof, challenge=Hash(bytes(32)))) == "audit-challenge"
    assert refuse(chain, DAVE, replace(proof, digests=(bytes(32),))) == "digests-root"
    chain.mine(chain.sign(DAVE, proof))
    assert refuse(chain, DAVE, proof) == "audit-duplicate"


def test_a_proof_of_what_does_not_stand_any_more_is_refused() -> None:
    chain = begin(DAVE)
    chain.mine_to(chain.height + PARAMETERS.proof_window)
    assert refuse(chain, DAVE, chain.prove_audit(DAVE, BOB)) == "audit-status"


def test_another_auditors_proof_is_of_no_use() -> None:
    chain = begin(DAVE, CAROL, parameters=Parameters(audit_bp=20_000))
    assert {audit.auditor for audit in chain.audits(BOB)} == {DAVE.public_key, CAROL.public_key}
    assert refuse(chain, CAROL, chain.prove_audit(DAVE, BOB)) == "digests-root"
    chain.mine(chain.sign(DAVE, chain.prove_audit(DAVE, BOB)), chain.sign(CAROL, chain.prove_audit(CAROL, BOB)))


@pytest.mark.parametrize("case", ["own", "late", "same block", "retired"])
def test_who_is_not_drawn(case: str) -> None:
    chain = AuditedChain()
    if case != "late":
        chain.mine(chain.register(BOB if case == "own" else DAVE))
    if case == "retired":
        chain.mine(chain.retire(DAVE))
    chain.mine_to(9)
    first = (chain.register(CAROL),) if case == "same block" else ()
    chain.mine(*first, chain.sign(BOB, chain.commit(BOB)))
    if case == "late":
        chain.mine(chain.register(DAVE))
    chain.mine_to(12)
    drawn = {audit.auditor for audit in chain.audits(BOB)}
    assert drawn == ({DAVE.public_key} if case == "same block" else set())


def test_an_auditors_leaving_does_not_change_whether_another_is_drawn() -> None:
    chain = begin(DAVE)
    contribution = chain.contribution(BOB)
    listed = tuple(ActiveAuditor(make_public_key(number), 0, BOND * number) for number in range(1, 30))
    (drawn,) = draw_auditors(PARAMETERS, contribution, BOB.public_key, listed)
    for each in listed:
        without = tuple(other for other in listed if other != each)
        (again,) = draw_auditors(PARAMETERS, contribution, BOB.public_key, without)
        assert (again == drawn) is (each.auditor != drawn)


@pytest.mark.parametrize(("audit_bp", "mean"), [(0, 0), (500, 0.05), (5_000, 0.5), (10_000, 1), (25_000, 2.5)])
def test_audits_are_as_many_as_the_parameter_says(audit_bp: int, mean: float) -> None:
    contribution = begin(DAVE).contribution(BOB)
    parameters = replace(PARAMETERS, audit_bp=audit_bp)
    listed = tuple(ActiveAuditor(make_public_key(number), 0, BOND) for number in range(1, 9))
    counts = {key.auditor: 0 for key in listed}
    draws = 2_000
    for number in range(draws):
        drawn = replace(contribution, challenge=Hash(number.to_bytes(32, "big")))
        for auditor in draw_auditors(parameters, drawn, BOB.public_key, listed):
            counts[auditor] += 1
    assert sum(counts.values()) / draws == pytest.approx(mean, abs=0.03)
    assert all(count / draws == pytest.approx(mean / 8, abs=0.03) for count in counts.values()), "alike for all"


def vouch_falsely(parameters: Parameters = PARAMETERS) -> AuditedChain:
    """Return a chain on which Dave has vouched for a flawed segment of Bob's."""
    chain = begin(DAVE, parameters=parameters, flaw=bytes(32))
    prove(chain, DAVE)
    return chain


def test_threat_29_who_vouches_for_what_falls_loses_the_bond_half_of_it_to_the_winner() -> None:
    chain = vouch_falsely()
    burned = get_burned(chain)
    chain.mine(chain.sign(CAROL, chain.demand(BOB, DemandOpening(0, 0, 0))))
    chain.mine_to(chain.height + PARAMETERS.dispute_window - 1)
    events = chain.mine().events
    assert outcomes(events) == [(AuditOutcome.FALLEN, DAVE.public_key)]
    assert chain.contribution(BOB).status is S.SLASHED
    assert (chain.auditor(DAVE), chain.account(DAVE).balance) == (None, FUNDS - BOND)
    assert chain.account(CAROL).balance == FUNDS + DEPOSIT // 2 + BOND // 2
    assert get_burned(chain) - burned == DEPOSIT - DEPOSIT // 2 + BOND - BOND // 2
    assert chain.audits(BOB) == ()
    assert AuditOutcome.MISSED not in [outcome for outcome, _ in outcomes(finish(chain))]


@pytest.mark.parametrize("is_answered", [False, True])
def test_who_vouched_cannot_escape_by_letting_the_segment_expire(*, is_answered: bool) -> None:
    """A miner that is found out may leave its places closed: its deposit burns, but the dispute goes on."""
    chain = begin(DAVE, flaw=bytes(32))
    chain.mine(chain.sign(DAVE, chain.prove_audit(DAVE, BOB)), chain.sign(CAROL, chain.demand(BOB)))
    chain.mine(*([chain.sign(BOB, chain.answer(BOB, CAROL))] if is_answered else []))
    assert chain.contribution(BOB).status is S.EXPIRED
    assert refuse(chain, ALICE, chain.demand(BOB)) == "dispute-status"
    if is_answered:
        chain.mine(chain.sign(CAROL, chain.demand(BOB, DemandOpening(0, 0, 0), deposit=0)))
        assert refuse(chain, DAVE, chain.answer(BOB, CAROL)) == "op-test"
        chain.mine_to(chain.height + PARAMETERS.dispute_window - 1)
    events = chain.mine().events
    assert outcomes(events) == [(AuditOutcome.FALLEN, DAVE.public_key)]
    assert chain.contribution(BOB).status is S.SLASHED
    assert chain.account(CAROL).balance == FUNDS + BOND // 2, "the miner's deposit has burned already"
    assert (chain.auditor(DAVE), chain.audits(BOB)) == (None, ())


def test_who_vouched_for_an_honest_segment_that_expired_answers_and_keeps_its_bond() -> None:
    chain = begin(DAVE)
    chain.mine(chain.sign(DAVE, chain.prove_audit(DAVE, BOB)))
    chain.mine(chain.sign(CAROL, chain.demand(BOB, DemandOpening(0, 0, 0))))
    assert chain.contribution(BOB).status is S.EXPIRED
    chain.mine(chain.sign(DAVE, chain.answer(BOB, CAROL)))
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert (auditor.bond, chain.audits(BOB)) == (BOND, ())
    assert chain.account(CAROL).balance == FUNDS - DEPOSIT
    assert AuditOutcome.PAID not in [outcome for outcome, _ in outcomes(finish(chain))]


def test_a_dispute_about_what_expired_outlasts_its_round() -> None:
    chain = begin(DAVE, parameters=Parameters(dispute_window=8), flaw=bytes(32))
    chain.mine(chain.sign(DAVE, chain.prove_audit(DAVE, BOB)), chain.sign(CAROL, chain.demand(BOB)))
    finish(chain)
    assert chain.audits(BOB, round_number=1) == (Audit(DAVE.public_key, 1),)
    chain.mine_to(21)
    assert chain.contribution(BOB, round_number=1).status is S.SLASHED
    assert (chain.auditor(DAVE), chain.audits(BOB, round_number=1)) == (None, ())


def test_a_bond_falls_with_a_segment_that_was_held() -> None:
    chain = vouch_falsely()
    chain.mine_to(17)
    chain.mine(chain.sign(CAROL, chain.demand(BOB, DemandOpening(0, 0, 0))))
    assert chain.contribution(BOB, round_number=1).status is S.HELD
    assert chain.audits(BOB, round_number=1) == (Audit(DAVE.public_key, 1),)
    chain.mine_to(chain.height + PARAMETERS.dispute_window)
    assert (chain.auditor(DAVE), chain.audits(BOB, round_number=1)) == (None, ())


def test_an_audit_of_a_held_segment_that_is_cleared_is_paid_then() -> None:
    chain = begin(DAVE)
    prove(chain, DAVE)
    chain.mine_to(17)
    chain.mine(chain.sign(CAROL, chain.demand(BOB, DemandOpening(0, 0, 0))))
    price, before = chain.task.price, chain.account(DAVE).balance
    pot = chain.task.pot
    effects = chain.mine(chain.sign(BOB, chain.answer(BOB, CAROL, round_number=1)))
    assert outcomes(effects.events) == [(AuditOutcome.PAID, DAVE.public_key)]
    pay = chain.account(DAVE).balance - before
    assert pay == price * AUDIT_MACS >> 40
    assert chain.task.pot <= pot - pay - chain.contribution(BOB, round_number=1).reward + PARAMETERS.subsidy * 45 // 100
    assert chain.audits(BOB, round_number=1) == ()


def test_an_auditor_that_disputes_instead_has_done_its_duty() -> None:
    chain = begin(DAVE, flaw=bytes(32))
    prove(chain)
    chain.mine_to(17)
    events = chain.mine(chain.sign(DAVE, chain.demand(BOB, DemandOpening(0, 0, 0)))).events
    assert outcomes(events) == [(AuditOutcome.DISPUTED, DAVE.public_key)]
    chain.mine_to(chain.height + PARAMETERS.dispute_window)
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert (auditor.bond, chain.account(DAVE).balance) == (BOND, FUNDS - BOND + DEPOSIT // 2)


def test_a_dispute_that_was_lost_is_no_duty_done() -> None:
    chain = begin(DAVE)
    prove(chain)
    chain.mine(chain.sign(DAVE, chain.demand(BOB, DemandOpening(0, 0, 0))))
    chain.mine(chain.sign(BOB, chain.answer(BOB, DAVE)))
    assert (AuditOutcome.MISSED, DAVE.public_key) in outcomes(finish(chain))
    assert chain.account(DAVE).balance == FUNDS - BOND - DEPOSIT


def test_an_honest_auditor_answers_where_a_miner_keeps_silent_to_burn_its_bond() -> None:
    """Half of a bond would pay a miner well for its own deposit; so anybody may show what an honest segment gives."""
    chain = begin(DAVE)
    prove(chain, DAVE)
    chain.mine(chain.sign(CAROL, chain.demand(BOB, DemandStrip(0, 0))))
    chain.mine(chain.sign(DAVE, chain.answer(BOB, CAROL)))
    chain.mine(chain.sign(CAROL, chain.demand(BOB, DemandOpening(0, 0, 0), deposit=0)))
    answer = chain.answer(BOB, CAROL)
    assert isinstance(answer, AnswerDispute)
    assert refuse(chain, DAVE, replace(answer, answer=b"other")) == "answer"
    chain.mine(chain.sign(DAVE, answer))
    assert chain.contribution(BOB, round_number=1).status is S.HELD or chain.contribution(BOB).status is S.PROVEN
    chain.mine_to(27)
    assert chain.contribution(BOB, round_number=1).status is S.SETTLED
    assert chain.account(CAROL).balance == FUNDS - DEPOSIT


@pytest.mark.parametrize("exchanges", [1, 2, 3])
def test_a_bond_outlives_every_dispute_about_what_it_vouched_for(exchanges: int) -> None:
    """Notice right after the proof, demands as late as can be: the bond is still there when the last one wins."""
    parameters = Parameters(dispute_window=8)
    chain = begin(DAVE, parameters=parameters, flaw=bytes(32))
    prove(chain, DAVE)
    chain.mine(chain.retire(DAVE))
    release = chain.height + compute_release_blocks(parameters)
    end = chain.task.start_height + parameters.round_blocks
    chain.mine_to(end - 1)
    demands: list[Any] = [None, DemandStrip(0, 0), DemandOpening(0, 0, 0)][-exchanges:]
    for number, demand in enumerate(demands):
        action = chain.demand(BOB, demand, deposit=None if number == 0 else 0, round_number=1)
        chain.mine(chain.sign(CAROL, action))
        if number < exchanges - 1:
            chain.mine_to(chain.height + parameters.dispute_window - 1)
            chain.mine(chain.sign(BOB, chain.answer(BOB, CAROL, round_number=1)))
            chain.mine_to(chain.height + parameters.dispute_window - 1)
    while chain.contribution(BOB, round_number=1).status is not S.SLASHED:
        assert chain.auditor(DAVE) is not None
        chain.mine()
    assert chain.auditor(DAVE) is None
    assert chain.height < release
    assert exchanges < 3 or release - chain.height <= 5, "no longer than it has to be"


def test_a_retired_auditor_still_owes_what_it_was_drawn_for() -> None:
    chain = begin(DAVE)
    chain.mine(chain.retire(DAVE), chain.sign(BOB, chain.prove(BOB)))
    assert (AuditOutcome.MISSED, DAVE.public_key) in outcomes(finish(chain))
    auditor = chain.auditor(DAVE)
    assert auditor is not None
    assert auditor.bond == BOND - PENALTY


def test_nobody_owes_a_proof_of_what_was_slashed(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = begin(DAVE, flaw=bytes(32))
    monkeypatch.setattr(rules, "apply_missed", lambda *_: pytest.fail("nothing stands that a proof is owed of"))
    chain.mine(chain.sign(CAROL, chain.demand(BOB, DemandOpening(0, 0, 0))), chain.sign(BOB, chain.prove(BOB)))
    finish(chain)
    assert chain.contribution(BOB, round_number=1).status is S.SLASHED
    assert chain.audits(BOB, round_number=1) == ()
