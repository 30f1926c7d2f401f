"""Whole networks on virtual clocks, wires and disks: a seed decides everything, what must hold holds, bugs are seen."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

import node.gate
import node.importer
import node.producer
import p2p.fetch
from benchmarks.lab.simulator.campaign import render_page, run_campaign
from benchmarks.lab.simulator.disk import VirtualDisk
from benchmarks.lab.simulator.faults import KINDS
from benchmarks.lab.simulator.invariants import JOINED
from benchmarks.lab.simulator.machine import InvariantBroken, Machine
from benchmarks.lab.simulator.schedule import LONG_EVERY
from benchmarks.lab.simulator.simulation import QUIET, Focus, run_seed
from chain.header import Header
from chain.ledger import transactions
from chain.ledger.accounts import apply_credit
from chain.primitives import ZERO_HASH, PublicKey
from chain.signature import SigningKey
from chain.state.view import StateView
from chain.ticket import Ticket
from consensus.header_chain import ChainEntry
from consensus.header_rules import HeaderContent, HeaderContext, make_header
from node.auditor import Auditor
from node.cli import main
from node.exit_codes import ExitCode
from p2p.compact_relay import CompactRelay
from p2p.fetch import Fetcher
from p2p.sync import Sync

SEEDS = range(1, 7)
BETRAYAL = Focus((), ("false compact blocks",))
HOLDING_BACK = Focus((), ("new blocks held back",))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_must_hold_holds(seed: int) -> None:
    result = run_seed(seed)
    assert result.failure is None, f"mathesis lab simulate --seed {seed} --trace"
    assert result.height >= 5


def test_miners_join_a_network_that_runs() -> None:
    assert sum(run_seed(seed).actions.get(JOINED, 0) for seed in (7, 8)) > 0


def test_a_seed_gives_the_same_events_again() -> None:
    first, second = run_seed(4), run_seed(4)
    assert (first.digest, first.counts) == (second.digest, second.counts)
    assert run_seed(5).digest != first.digest


def test_no_hash_of_memory_or_text_decides_anything() -> None:
    """Sets iterate otherwise under another hash seed, and objects lie elsewhere in another process."""
    script = "from benchmarks.lab.simulator.simulation import run_seed; print(run_seed(4).digest)"
    environment = os.environ | {"PYTHONHASHSEED": "4711"}
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert found.stdout.split() == [run_seed(4).digest]


def test_a_node_that_comes_late_samples_the_headers_it_is_shown() -> None:
    result = run_seed(2 * LONG_EVERY)
    assert result.failure is None
    assert result.counts["sampled"] > 0


@pytest.mark.parametrize("seed", [65, 66, 69])
def test_a_block_whose_pusher_lies_comes_from_others(seed: int) -> None:
    result = run_seed(seed, focus=BETRAYAL)
    assert result.failure is None
    assert result.counts["fallback"] > 0


@pytest.mark.parametrize("kinds", [(), ("partition", "crash")])
def test_whoever_names_blocks_first_and_brings_none_holds_nothing_back(kinds: tuple[str, ...]) -> None:
    result = run_seed(69, focus=replace(HOLDING_BACK, kinds=kinds))
    assert result.failure is None
    assert result.counts["malice"] > 0


def test_a_failure_is_told_by_another_process() -> None:
    failure = InvariantBroken("supply is conserved", "an atom more")
    assert str(pickle.loads(pickle.dumps(failure))) == "supply is conserved: an atom more"


def find_failure(seeds: range = range(61, 76), focus: Focus | None = None) -> str:
    """Return the first invariant that breaks in one of some seeds."""
    for seed in seeds:
        failure = run_seed(seed, focus=focus).failure
        if failure is not None:
            return failure.invariant
    return "none"


def test_a_disk_that_forgets_what_it_acknowledged_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine without sync: the last write before a crash never reached the disk."""
    write, crash = VirtualDisk.write, Machine.crash
    before: dict[int, dict[bytes, bytes]] = {}

    def write_unsynced(disk: VirtualDisk, apply: Callable[[], None]) -> None:
        before[id(disk)] = dict(disk.rows)
        write(disk, apply)

    def crash_unsynced(machine: Machine, *, is_silent: bool) -> None:
        if machine.is_running:
            machine.disk.rows = before.get(id(machine.disk), machine.disk.rows)
        crash(machine, is_silent=is_silent)

    monkeypatch.setattr(VirtualDisk, "write", write_unsynced)
    monkeypatch.setattr(Machine, "crash", crash_unsynced)
    assert find_failure() == "no acknowledged block is lost"


def test_an_importer_that_accepts_a_bad_root_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def forge(
        context: HeaderContext, parent: ChainEntry, ticket: Ticket, content: HeaderContent, key: SigningKey
    ) -> Header:
        forged = replace(content, state_root=ZERO_HASH) if parent.height == 3 else content
        return make_header(context, parent, ticket, forged, key)

    monkeypatch.setattr(node.producer, "make_header", forge)
    monkeypatch.setattr(node.importer, "validate_effects", lambda block, effects: None)
    monkeypatch.setattr("chain.ledger.apply.validate_effects", lambda block, effects: None)
    assert find_failure() != "none"


def plant_atom_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    def credit_too_much(view: StateView, account: PublicKey, amount: int) -> None:
        apply_credit(view, account, amount + 1)

    monkeypatch.setattr(transactions, "apply_credit", credit_too_much)


def test_a_ledger_that_makes_an_atom_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_atom_maker(monkeypatch)
    assert find_failure() == "supply is conserved"


def test_a_relay_that_never_asks_for_headers_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sync, "_ask", lambda sync, now_ms: [])
    assert find_failure() == "one tip after healing"


def test_a_compact_relay_that_never_falls_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompactRelay, "poll", lambda relay, now_ms: None)
    monkeypatch.setattr(CompactRelay, "_fetch_whole", lambda relay, block_hash, entry: None)
    assert find_failure(range(65, 70), BETRAYAL) == "news spreads"


def test_a_fetcher_that_never_asks_again_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fetcher, "_is_stalled", lambda fetcher, load, now_ms: False)
    assert find_failure(range(70, 77), HOLDING_BACK) == "news spreads"


def test_an_auditor_that_disputes_nothing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fails in these runs, and in some of them a contributor is a forger."""
    assert run_seed(1, focus=QUIET).actions["DisputeContribution"] > 0

    async def look_away(auditor: Auditor, *_: object) -> None:
        return

    monkeypatch.setattr(Auditor, "_begin", look_away)
    assert find_failure(range(1, 7), QUIET) == "forgery is not paid"


def test_an_honest_charge_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetcher that takes what it has given up as unasked charges whoever was only slow."""
    monkeypatch.setattr(p2p.fetch._Load, "add_late", lambda load, item: None)
    assert find_failure(range(110, 113)) == "honest peers are only slow"


def test_a_pool_that_forgets_what_was_on_a_left_block_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.gate, "pack_transactions", lambda transactions: [])
    assert find_failure() == "a transaction outlives its block"


def test_a_campaign_counts_and_names_what_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    summary = run_campaign(range(2), 1, lines.append)
    assert (summary.seeds, summary.failed, lines) == (2, [], [])
    assert all(name in render_page(range(2), summary) for name in KINDS)
    plant_atom_maker(monkeypatch)
    assert main(["lab", "simulate", "--seed", "61"]) == ExitCode.FAILURE
    assert "supply is conserved" in capsys.readouterr().err


def test_a_trace_shows_every_event_and_bad_spans_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "simulate", "--seed", "1", "--trace"]) == ExitCode.OK
    traced = capsys.readouterr().out
    assert " boot n0" in traced
    assert run_seed(1).digest in traced
    for span in ("5", "9..3", "0..99999999", "a..b"):
        assert main(["lab", "simulate", "--seeds", span]) == ExitCode.USAGE
        assert "expected a span" in capsys.readouterr().err
