"""The campaign refuses every altered object, repeats itself from a seed, and sees a check that lets something in."""

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.campaign import PART, Plan, repeat_case, run_campaign, run_part
from benchmarks.lab.mutations.cases import Ending, get_samples, judge_attempt, make_case
from benchmarks.lab.mutations.json_mutators import JSON_MUTATORS
from benchmarks.lab.mutations.report import list_faults, make_records, render_page
from benchmarks.lab.mutations.tally import Tally
from benchmarks.lab.mutations.target import REFUSALS
from benchmarks.lab.mutations.targets import SLOTS, TARGETS, find_target, get_target
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from benchmarks.lab.records import LabError
from chain.errors import InvalidProof
from node.cli import main
from node.exit_codes import ExitCode

CASES = 2_500
NAMES = tuple(target.name for target in TARGETS)


def run(name: str, count: int = 300) -> Tally:
    return run_campaign(Plan(3, count, 1, (name,)), lambda _line: None)


@pytest.fixture(scope="module")
def tally() -> Tally:
    lines: list[str] = []
    result = run_campaign(Plan(7, CASES, 1), lines.append)
    assert lines[-1] == f"{CASES:,} of {CASES:,} cases, 0 faults"
    return result


def test_nothing_altered_is_accepted(tally: Tally) -> None:
    assert tally.faults == []
    assert tally.fault_count == 0
    assert sum(tally.kinds.values()) == CASES
    assert tally.counted > 0.93 * CASES, "mutators that alter nothing try nothing"
    for name in NAMES:
        assert tally.count(Ending.REFUSED, target=name) > 40
        assert len(list(tally.iter_rules(name))) >= 4
        assert tally.get_peak_bytes(name)


def test_the_page_and_the_records_show_what_was_counted(tally: Tally) -> None:
    plan = Plan(7, CASES, 1)
    page, records = render_page(plan, tally), list(make_records(plan, tally))
    assert f"**{tally.counted:,} mutations: 0 accepted, 0 crashes, 0 held too much memory.**" in page
    assert "## Faults" not in page
    assert all(f"## {name.capitalize()}" in page for name in NAMES)
    by_target = [record for record in records if "rule" not in record]
    assert [record["target"] for record in by_target] == list(NAMES)
    assert sum(int(str(record["refused"])) for record in by_target) == tally.counted


@pytest.mark.parametrize("name", NAMES)
def test_every_forger_is_refused(name: str) -> None:
    tried = 0
    for number, sample in enumerate(get_samples(name)):
        for kind, forge in sample.forgeries.items():
            attempt = forge(Random(f"{number}:{kind}"))
            if attempt is None or (attempt.data == sample.honest.data and not attempt.is_staged):
                continue
            verdict = judge_attempt(attempt, is_traced=False)
            if verdict.ending is Ending.BY_RIGHTS:
                continue
            tried += 1
            assert verdict.ending is Ending.REFUSED, (kind, verdict)
    assert tried >= len(get_samples(name)) // 2


@pytest.mark.parametrize("name", NAMES)
def test_no_sample_is_valid_in_anothers_place(name: str) -> None:
    samples = get_samples(name)
    pairs = [(one, other) for one in samples for other in samples if one.honest.data != other.honest.data]
    for one, other in Random(1).sample(pairs, min(12, len(pairs))):
        with pytest.raises(REFUSALS):
            one.honest.judge(other.honest.data)


def test_a_seed_decides_every_byte() -> None:
    numbers = [number for number in range(4 * SLOTS) if find_target(number) is not None]
    first, second, other = ([make_case(seed, number).attempt for number in numbers] for seed in (5, 5, 6))
    shown, again, else_shown = ([each and each.data for each in attempts] for attempts in (first, second, other))
    assert shown == again
    assert sum(one != two for one, two in zip(shown, else_shown, strict=True)) > 0.9 * len(numbers)


def test_parts_add_up_to_the_whole() -> None:
    numbers = [number for number in range(SLOTS * 8) if find_target(number) is not None]
    whole, halves = run_part(1, NAMES, numbers), [run_part(1, NAMES, part) for part in (numbers[::2], numbers[1::2])]
    merged = Tally()
    for half in halves:
        merged.merge(half)
    assert merged.kinds == whole.kinds
    assert merged.rules == whole.rules
    assert merged.shown_bytes == whole.shown_bytes
    assert {key: len(ticks) for key, ticks in merged.ticks.items()} == {k: len(t) for k, t in whole.ticks.items()}


def test_chosen_targets_run_the_same_cases() -> None:
    """A case is named by its number, whatever else is run."""
    alone = run("evidence", 60)
    numbers = [number for number in range(PART) if (target := find_target(number)) and target.name == "evidence"]
    assert run_part(3, ("evidence",), numbers[:60]).kinds == alone.kinds


def test_free_slots_name_no_case() -> None:
    free = next(number for number in range(SLOTS) if find_target(number) is None)
    with pytest.raises(LabError, match=f"found case {free}"):
        get_target(free)


@pytest.mark.parametrize("kind", [*BYTE_MUTATORS, *WIRE_MUTATORS, *JSON_MUTATORS])
def test_every_mutator_alters(kind: str) -> None:
    mutate = (BYTE_MUTATORS | WIRE_MUTATORS | JSON_MUTATORS)[kind]
    name = "light client answers" if kind in JSON_MUTATORS else "evidence"
    data, other = (sample.honest.data for sample in get_samples(name)[:2])
    altered = [mutate(Random(seed), data, other) for seed in range(50)]
    assert len({*altered} - {data}) >= 10
    assert altered == [mutate(Random(seed), data, other) for seed in range(50)]


def accept_anything(*_args: object) -> None:
    """Check nothing."""


def say_yes(*_args: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("place", "weakened", "name"),
    [
        ("consensus.header_rules.verify_signature", say_yes, "tickets"),
        ("benchmarks.lab.mutations.ticket_target.verify_ticket", accept_anything, "tickets"),
        ("ml.checks.validate_claim", accept_anything, "openings"),
        ("ml.openings.verify_piece", lambda _root, _shape, _row, _window, piece: piece.data, "openings"),
        ("ml.batching._decide", lambda *_args: [], "batched openings"),
        ("ml.freivalds.validate_product", accept_anything, "transcripts"),
        ("consensus.header_rules._validate_segment", accept_anything, "headers"),
        ("consensus.flyclient._validate_samples", accept_anything, "header proofs"),
        ("benchmarks.lab.mutations.state_target.verify_exclusion", accept_anything, "state proofs"),
        ("chain.state.proof._verify_root", accept_anything, "state proofs"),
        ("chain.ledger.bonds.verify_signature", say_yes, "evidence"),
        ("chain.ledger.bonds._validate_pair", accept_anything, "evidence"),
        ("node.light.verify_inclusion", accept_anything, "light client answers"),
        ("node.learning.verify_audit", accept_anything, "audits"),
        ("ml.answer_checks.check_place", accept_anything, "paid answers"),
        ("node.inference.claims.validate_answer", accept_anything, "paid answers"),
        ("node.inference.claims.validate_checkpoint_roots", accept_anything, "paid answers"),
    ],
)
def test_a_weakened_check_is_seen(
    monkeypatch: pytest.MonkeyPatch, place: str, weakened: Callable[..., object], name: str
) -> None:
    run(name, 1)
    monkeypatch.setattr(place, weakened)
    tally = run(name)
    accepted = [fault for fault in tally.faults if fault.ending is Ending.ACCEPTED]
    assert accepted
    line = list_faults(Plan(3, 300, 1, (name,)), tally)[0]
    assert line.endswith(f"--replay 3:{tally.faults[0].number}")
    assert repeat_case(3, accepted[0].number)["ending"] == "accepted"
    assert "## Faults" in render_page(Plan(3, 300, 1, (name,)), tally)


@pytest.mark.parametrize("name", ["chain_id", "genesis_hash", "network"])
def test_a_client_believes_no_name_of_a_network(name: str) -> None:
    sample = next(sample for sample in get_samples("light client answers") if b'"chain_id"' in sample.honest.data)
    answer = json.loads(sample.honest.data)
    other = "elsewhere" if name == "network" else f"0x{'11' * 32}"
    with pytest.raises(InvalidProof, match="genesis"):
        sample.honest.judge(json.dumps(answer | {name: other}).encode())


def test_an_answer_in_other_words_is_valid_by_rights() -> None:
    sample = get_samples("light client answers")[0]
    spaced = json.dumps(json.loads(sample.honest.data), indent=1).encode()
    assert judge_attempt(replace(sample.honest, data=spaced), is_traced=False).ending is Ending.BY_RIGHTS


def test_an_answer_that_is_no_text_is_a_bad_answer() -> None:
    for sample in get_samples("light client answers"):
        spoilt = sample.honest.data.replace(b'":"', b'":"\xff', 1)
        verdict = judge_attempt(replace(sample.honest, data=spoilt), is_traced=False)
        assert (verdict.ending, verdict.rule) == (Ending.REFUSED, "BadAnswer")


def test_a_crash_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> bool:
        raise ValueError("found a surprise")

    run("evidence", 1)
    monkeypatch.setattr("chain.ledger.bonds.verify_signature", fail)
    tally = run("evidence")
    assert tally.count(Ending.CRASHED) == tally.fault_count > 0
    assert "ValueError found a surprise" in tally.faults[0].detail


def test_memory_held_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bytearray] = []

    def hoard(*_args: object) -> bool:
        held[:] = [bytearray(4 << 20)]
        return False

    run("evidence", 1)
    monkeypatch.setattr("chain.ledger.bonds.verify_signature", hoard)
    tally = run("evidence", 600)
    assert tally.count(Ending.HOARDED) == tally.fault_count > 0


def test_a_refused_honest_object_ends_the_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.lab.mutations import campaign

    monkeypatch.setattr("chain.ledger.bonds.verify_signature", lambda *_args: False)
    campaign.measure_honest.cache_clear()
    try:
        with pytest.raises(LabError, match="evidence: an honest object was not accepted: evidence-signature"):
            campaign.measure_honest("evidence")
    finally:
        campaign.measure_honest.cache_clear()


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["lab", "mutations", "--count", "40", "--target", "evidence"]
    assert main([*arguments, "--json"]) == ExitCode.OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["target"] == "evidence"
    assert lines[0]["accepted"] == lines[0]["crashed"] == 0
    assert main(arguments) == ExitCode.OK
    assert capsys.readouterr().out.startswith("# Mutations")
    number = next(number for number in range(SLOTS) if get_target(number).name == "evidence")
    assert main(["lab", "mutations", "--replay", f"1:{number}", "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["target"] == "evidence"
    for wrong in (["--replay", "1"], ["--replay", "a:1"], ["--target", "everything"]):
        assert main(["lab", "mutations", *wrong]) == ExitCode.USAGE
