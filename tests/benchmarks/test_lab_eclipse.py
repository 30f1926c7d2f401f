"""The siege of an address book: its outcomes repeat, its arithmetic holds, and weaker books are lost."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.lab.eclipse import Siege, run_siege
from benchmarks.lab.eclipse_page import QUICK, compute_full_share, compute_placed, compute_tried_buckets, run_campaigns
from node.cli import main
from node.exit_codes import ExitCode
from p2p import address_tables
from p2p.address_book import AddressBook
from p2p.dialling import DialPlan

SMALL = Siege(256, addresses=2_000, restarts=3)


def test_a_siege_repeats_and_leaves_an_honest_peer() -> None:
    outcomes = [run_siege(SMALL, seed) for seed in (1, 1, 2)]
    assert outcomes[0] == outcomes[1] != outcomes[2]
    assert [outcome.eclipses for outcome in outcomes] == [0, 0, 0]
    assert outcomes[0].starts == 3
    assert outcomes[0].full_slots == 24


def test_places_and_slots_are_as_computed() -> None:
    for prefixes in (1, 16, 256):
        siege = replace(SMALL, prefixes=prefixes)
        assert run_siege(siege, 7).placed == pytest.approx(compute_placed(siege), rel=0.1)
    assert compute_tried_buckets(Siege(1)) == pytest.approx(8, rel=0.02)
    assert compute_full_share(0.0, 0.0, 75) == 0
    assert compute_full_share(1.0, 1.0, 75) == 1
    assert compute_full_share(0.5, 0.5, 100) == pytest.approx(0.5)


def test_an_attacker_in_few_networks_gets_few_slots_however_many_addresses_it_tells() -> None:
    outcome = run_siege(replace(SMALL, prefixes=1), 3)
    assert outcome.placed <= 64
    assert outcome.full_lost + outcome.block_only_lost <= outcome.starts


def test_a_book_without_buckets_by_teller_is_filled_by_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_tables, "compute_prefix", lambda ip: ip[12:])
    assert run_siege(replace(SMALL, prefixes=1), 3).placed > 1_000


def test_a_plan_without_anchors_and_tried_slots_loses_more(monkeypatch: pytest.MonkeyPatch) -> None:
    siege = replace(SMALL, prefixes=1_024, restarts=8)
    before = [run_siege(siege, seed) for seed in range(3)]
    monkeypatch.setattr(DialPlan, "get_anchors", lambda plan: ())
    after = [run_siege(siege, seed) for seed in range(3)]
    assert sum(o.block_only_lost for o in before) * 2 < sum(o.block_only_lost for o in after)


def test_an_eclipse_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A book that forgets the honest at the attack is eclipsed at every start."""
    add = AddressBook.add

    def forget(book: AddressBook, *arguments: object) -> bool:
        if len(book) > 600:
            for entry in list(book):
                if not entry.is_tried:
                    book._drop_new(entry)
        return add(book, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(AddressBook, "add", forget)
    outcome = run_siege(replace(SMALL, prefixes=1_024, restarts=2, honest_tried=0, online_percent=0, past_starts=0), 1)
    assert outcome.eclipses == outcome.starts == 2


@pytest.mark.slow
def test_the_command_writes_no_page_when_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "eclipse", "--quick", "--out", str(tmp_path / "none")]) == ExitCode.OK
    shown = capsys.readouterr()
    assert "| 256 |" in shown.out
    assert "2 of 2 runs" in shown.err
    assert not (tmp_path / "none").exists()


def test_campaigns_name_the_seeds_that_were_lost() -> None:
    plan = replace(QUICK, prefixes=(16,))
    (campaign,), bare, long = run_campaigns(plan, lambda line: None)
    assert (campaign.runs, campaign.lost_seeds, bare, long) == (2, (), [], [])
