"""Random histories of the economy hold, and books that are wrong by an atom, or a rule that is, are noticed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.lab.economy import actions, ballots, books, oracle, orders
from benchmarks.lab.economy.copies import CopyBook, find_owed
from benchmarks.lab.economy.history import REFUSED, make_history
from benchmarks.lab.economy.world import Broken
from benchmarks.lab.reliability import economy
from benchmarks.lab.reliability.economy import play_history, run_economy
from benchmarks.lab.reliability.part import Setup
from chain.errors import InvalidBlock
from chain.genesis import Parameters
from chain.ledger import (
    auditors,
    audits,
    bonds,
    dataset_parts,
    income,
    near_duplicates,
    proposals,
    registry,
    rewards,
    shares,
    task_pots,
)
from chain.ledger.audit_records import ActiveAuditor
from chain.ledger.context import BlockScope
from chain.ledger.economy_records import Model
from chain.ledger.records import Contribution
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import ProposeChange


def test_histories_hold_and_meet_every_kind_of_action(tmp_path: Path) -> None:
    counts = Counter[str]()
    for seed, length in ((3, 1_200), (5, 700), (6, 1_000)):
        play_history(tmp_path / f"{seed}", seed, length, counts)
    assert all(counts[name] >= 20 for name in actions.ACTIONS)
    kinds = ("reorganisations", "segments settled", "segments expired", "segments slashed", "blocks")
    posted = ("posted segments settled", "tasks closed", "blocks in another order")
    audited = ("audits proven", "audits missed", "audit bonds fallen", "audit bonds given back", "seats taken")
    joined = ("bonds posted", "bonds given back", "bonds burned", "segments of newcomers")
    for name in (*kinds, *posted, *audited, *joined, *economy.VOTED):
        assert counts[name], name
    refused = {name.removeprefix(REFUSED) for name in counts if name.startswith(REFUSED)}
    assert {
        "income-parts",
        "content-known",
        "licence-held",
        "licence-free",
        "units",
        "income-none",
        "model-depth",
        "task-full",
        "task-height",
        "task-closed",
        "dataset-complete",
        "dataset-near-duplicate",
        "fund-amount",
        "auditor-held",
        "auditor-none",
        "auditors-full",
        "bond-held",
        "bond-release",
        "bond-none",
        "evidence-spent",
        "segment-miner",
        "segment-bond",
        "auditors-drawn",
        "auditor-release",
        "audit-unassigned",
        "audit-duplicate",
        "audit-status",
        "change-bounds",
        "change-step",
        "spend-treasury",
        "share-task",
        "share-same",
        "stake-amount",
        "stake-leaving",
        "stake-release",
        *("vote-stake", "proposal-closed"),
    } <= refused


def test_a_part_counts_what_it_did(tmp_path: Path) -> None:
    result = run_economy(Setup(60, 5, tmp_path, lambda _line: None))
    assert (result.reached, result.failures, result.next_seed) == (60, [], 6)
    assert sum(int(result.figures[name]) for name in actions.ACTIONS) == 60


def test_a_part_begins_no_history_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(economy, "ROUND", 20)
    result = run_economy(Setup(60, 5, tmp_path, lambda _line: None, until_s=0))
    assert (result.reached, result.figures["histories"]) == (20, "1")


def test_what_was_copied_is_found_by_the_books_alone() -> None:
    owner, copier = PublicKey(b"\1" * 32), PublicKey(b"\2" * 32)
    first, second = Hash(b"\5" * 32), Hash(b"\4" * 32)
    copies = {first: CopyBook(owner, 3, 1), second: CopyBook(copier, 5, 2)}
    assert find_owed(copies, second) is None, "nobody has seen the first"
    copies[first].is_shown = True
    assert (find_owed(copies, first), find_owed(copies, second)) == (None, first)
    copies[second].height = 3
    assert find_owed(copies, second) is None, "of one block neither is the earlier"


Patch = Callable[[pytest.MonkeyPatch], None]


def tax_more(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(income, "TREASURY_BP", 101)


def round_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(income, "compute_part", lambda amount, basis_points: -(-amount * basis_points // 10_000))


def forget_remainder(patch: pytest.MonkeyPatch) -> None:
    honest = shares.compute_spread

    def spread(model: Model, amount: int) -> Model:
        return replace(honest(model, amount), remainder=0)

    patch.setattr(income, "compute_spread", spread)


def allow_deeper(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registry, "DEPTH_MAX", 3)


def pay_more_for_segments(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(books, "PRICE_MACS", 2**40 + 2**20)


def share_wrongly(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(oracle, "TAX_BP", 99)


def spend_all_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rewards, "compute_allowance", lambda _parameters, _task, state: state.pot)


def ask_more_rent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(task_pots, "RENT", 10**9 + 1)


def keep_what_is_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(task_pots, "apply_credit", lambda *_: None)


def pay_more_for_audits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(books, "AUDIT_BP", 2_501)


def vouch_for_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(audits, "apply_forfeit", lambda *_: (0, 0))


def take_less_of_bonds(patch: pytest.MonkeyPatch) -> None:
    honest = auditors.apply_forfeit

    def forfeit(scope: BlockScope, view: StateView, key: PublicKey, winner: PublicKey) -> tuple[int, int]:
        parameters = replace(scope.context.parameters, auditor_bond=10**9)
        return honest(replace(scope, context=replace(scope.context, parameters=parameters)), view, key, winner)

    patch.setattr(audits, "apply_forfeit", forfeit)


def pay_reporters_more(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(bonds, "REPORTER_PERCENT", 11)


def put_off_the_largest(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(auditors, "_find_least", lambda listed: max(listed, key=lambda each: each.bond))


def draw_whoever_is_new(patch: pytest.MonkeyPatch) -> None:
    honest = audits.draw_auditors

    def draw(
        parameters: Parameters, contribution: Contribution, miner: PublicKey, listed: tuple[ActiveAuditor, ...]
    ) -> tuple[PublicKey, ...]:
        return honest(parameters, replace(contribution, commit_height=2**40), miner, listed)

    patch.setattr(audits, "draw_auditors", draw)


def vote_with_new_stake(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proposals, "compute_votes", lambda stake, _made_height: stake.amount)


def return_every_deposit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proposals, "apply_burn", lambda *_: None)


def hear_fewer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(books, "QUORUM_BP", 100)


def let_more_be_spent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(proposals, "SPEND_PERCENT_MAX", 26)


def take_effect_late(patch: pytest.MonkeyPatch) -> None:
    honest = proposals.compute_effect_height
    patch.setattr(proposals, "compute_effect_height", lambda *heights: honest(*heights) + 4)


def keep_the_share_of_tasks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rewards, "apply_subsidy", lambda *_: 0)


def round_shares_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(task_pots, "compute_part", lambda amount, basis_points: -(-amount * basis_points // 10_000))


def leave_bounds(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(ballots.LIMITS, "treasury_bp", (900, 1_100, 25))


def take_proposals_for_independent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(orders, "INDEPENDENT", (*orders.INDEPENDENT, ProposeChange))


def let_copies_pass(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(near_duplicates, "MATCHES_MIN", 97)


def charge_more_for_parts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dataset_parts, "PART_PRICE", 10**9 + 1)


def let_parts_come_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dataset_parts, "validate_part_place", lambda *_: None)


@pytest.mark.parametrize(
    "spoil",
    [
        tax_more,
        round_up,
        forget_remainder,
        allow_deeper,
        pay_more_for_segments,
        share_wrongly,
        spend_all_at_once,
        ask_more_rent,
        keep_what_is_left,
        pay_more_for_audits,
        vouch_for_free,
        take_less_of_bonds,
        put_off_the_largest,
        pay_reporters_more,
        draw_whoever_is_new,
        vote_with_new_stake,
        return_every_deposit,
        hear_fewer,
        let_more_be_spent,
        take_effect_late,
        keep_the_share_of_tasks,
        round_shares_up,
        leave_bounds,
        take_proposals_for_independent,
        let_copies_pass,
        charge_more_for_parts,
        let_parts_come_again,
    ],
)
def test_a_wrong_rule_or_book_is_noticed(spoil: Patch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spoil(monkeypatch)
    with pytest.raises((Broken, InvalidBlock)):
        # Not every history meets every rule.
        for seed in (8, 9):
            play_history(tmp_path / f"{seed}", seed, 1_500, Counter[str]())


def test_a_replay_that_differs_is_noticed(tmp_path: Path) -> None:
    run = make_history(tmp_path / "played", 4, Counter[str]())
    for _ in range(3):
        run.begin_block()
        run.end_block()
    run.replay(tmp_path / "replayed")
    run.world.tips[2] = replace(run.world.tips[2], root=ZERO_HASH)
    with pytest.raises(Broken, match="height 2"):
        run.replay(tmp_path / "again")
