"""Every attack of the suite ends as expected, every threat of its families is named, and a rule that breaks is seen."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from benchmarks.lab.attacks.case import QUICK, Attack, Effort, Ending, Outcome, is_as_expected
from benchmarks.lab.attacks.suite import FAMILIES, Result, load_attacks, make_record, render_page, run_suite
from chain.hashing import tagged_hash
from chain.ledger.records import Contribution
from chain.primitives import Hash

THREATS = {
    "trajectory": {*range(1, 11), 52},
    "commitment": {*range(11, 17), 56, 57},
    "challenge": {*range(17, 23), 53, 62, 64},
    "audits": {28, 29},
    "lottery": {*range(45, 52), 54, 55, 59, 63},
    "algebra": {*range(23, 27)},
    "determinism": {31, 32, 33},
}
"""Numbers that the cases of a family must name."""

ATTACKS = load_attacks()


@pytest.mark.parametrize(("family", "attack"), ATTACKS, ids=[f"{family}-{attack.name}" for family, attack in ATTACKS])
def test_attack_ends_as_expected(family: str, attack: Attack) -> None:
    outcome = attack.run(QUICK)
    assert is_as_expected(attack, outcome), f"{family}: {attack.expected}: {outcome}"


@pytest.mark.parametrize("family", sorted({family for family, _ in ATTACKS}))
def test_every_threat_is_named(family: str) -> None:
    named = {row for of_family, attack in ATTACKS for row in attack.rows if of_family == family}
    assert THREATS[family] <= named


def make_attack(*endings: Ending, outcome: Outcome) -> Attack:
    return Attack((1,), "planted", "tries it", "refused", endings, lambda _effort: outcome)


SOUND = Outcome(100, 100, None, None, "fine", -1.0)


@pytest.mark.parametrize(
    ("ending", "outcome", "is_expected"),
    [
        (Ending.DETECTED, SOUND, True),
        (Ending.DETECTED, replace(SOUND, detected=99), False),
        (Ending.DETECTED, replace(SOUND, tried=0, detected=0), False),
        (Ending.COMPUTED, replace(SOUND, detected=50, computed=0.5), True),
        (Ending.COMPUTED, replace(SOUND, detected=71, computed=0.5), False),
        (Ending.COMPUTED, replace(SOUND, detected=29, computed=0.5), False),
        (Ending.COMPUTED, replace(SOUND, detected=98, computed=1.0), False),
        (Ending.COMPUTED, SOUND, False),
        (Ending.UNPROFITABLE, SOUND, True),
        (Ending.UNPROFITABLE, replace(SOUND, gain=0.01), False),
        (Ending.UNPROFITABLE, replace(SOUND, gain=None, cost_ratio=1.1), True),
        (Ending.UNPROFITABLE, replace(SOUND, gain=None, cost_ratio=0.9), False),
        (Ending.UNPROFITABLE, replace(SOUND, gain=None), False),
        (Ending.ACCEPTED, replace(SOUND, detected=0), True),
        (Ending.ACCEPTED, replace(SOUND, detected=1), False),
        (Ending.OPEN, replace(SOUND, detected=1), True),
        (Ending.OPEN, SOUND, False),
    ],
)
def test_an_ending_holds_or_not(ending: Ending, outcome: Outcome, is_expected: bool) -> None:
    assert is_as_expected(make_attack(ending, outcome=outcome), outcome) is is_expected


def test_all_endings_must_hold() -> None:
    both = (Ending.DETECTED, Ending.UNPROFITABLE)
    assert is_as_expected(make_attack(*both, outcome=SOUND), SOUND)
    paying = replace(SOUND, gain=0.5)
    assert not is_as_expected(make_attack(*both, outcome=paying), paying)


def test_page_and_records_show_what_ended_wrongly() -> None:
    lost = replace(SOUND, detected=7)
    attacks = (("challenge", make_attack(Ending.DETECTED, outcome=lost)),)
    lines: list[str] = []
    results = run_suite(attacks, Effort(1, 1), lines.append)
    assert "NOT AS EXPECTED" in lines[0]
    page = render_page(results, Effort(1, 1))
    assert "**not as expected**: fine" in page
    assert "| 7 (7.00%) |" in page
    assert make_record(results[0])["is_as_expected"] is False
    fine = Result("challenge", attacks[0][1], SOUND, 0.0)
    assert "not as expected" not in render_page([fine], Effort(1, 1))


def test_rows_choose_cases() -> None:
    chosen = load_attacks((52,))
    assert chosen
    assert all(52 in attack.rows for _, attack in chosen)
    assert load_attacks((999,)) == ()
    assert {family for family, _ in ATTACKS} <= set(FAMILIES)


def accept_anything(*_args: object) -> None:
    """Check nothing."""


Break = Callable[[pytest.MonkeyPatch], None]


def open_checks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("benchmarks.lab.attacks.trajectory_odds.check_place", accept_anything)
    patch.setattr("benchmarks.lab.attacks.trajectory_judges._compare_with_openings", accept_anything)


def believe_sidecars(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("node.learning.Learning.is_segment_honest", lambda *_args: True)


def forget_deltas(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("node.learning.decode_delta", accept_anything)


def pay_every_ticket(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("chain.ledger.rewards._is_earned", lambda *_args: True)


def draw_beacons_afresh(patch: pytest.MonkeyPatch) -> None:
    numbers = count()
    fresh = "consensus.header_rules.compute_beacon"
    patch.setattr(fresh, lambda *_args: tagged_hash("beacon", next(numbers).to_bytes(8, "little")))


def challenge_without_beacon(patch: pytest.MonkeyPatch) -> None:
    def challenge(_beacon: Hash, contribution: Contribution) -> Hash:
        return tagged_hash("challenge", contribution.seed, contribution.trace_root)

    patch.setattr("benchmarks.lab.attacks.challenge_beacon.compute_challenge", challenge)


def believe_audits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("benchmarks.lab.attacks.audits.verify_audit", accept_anything)
    patch.setattr("node.learning.verify_audit", accept_anything)


def draw_anybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("chain.ledger.audits.draw_auditors", lambda _p, _c, _m, listed: tuple(e.auditor for e in listed))


def forgive_vouchers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("chain.ledger.audits.apply_forfeit", lambda *_args: (0, 0))


@pytest.mark.parametrize(
    ("break_rule", "name"),
    [
        (challenge_without_beacon, "trace ground for a guessed beacon"),
        (draw_beacons_afresh, "header signed again"),
        (pay_every_ticket, "first ops of endless segments"),
        (open_checks, "one easy batch, repeated: drawn places"),
        (open_checks, "skipped steps: drawn places"),
        (believe_sidecars, "one forged update, the rest free: re-execution"),
        (believe_sidecars, "replay"),
        (forget_deltas, "delta bytes poisoned"),
        (believe_audits, "audit without work"),
        (believe_audits, "audit proof copied"),
        (draw_anybody, "draw of auditors ground"),
        (forgive_vouchers, "forgery vouched for"),
    ],
)
def test_a_broken_rule_flips_its_case(monkeypatch: pytest.MonkeyPatch, break_rule: Break, name: str) -> None:
    attack = next(attack for _, attack in ATTACKS if attack.name == name)
    break_rule(monkeypatch)
    assert not is_as_expected(attack, attack.run(QUICK))
