"""A campaign does each run once, in an order that follows from its results, and its page says what they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lab.campaign import Campaign, choose_rate, find_next_run, run_campaign
from benchmarks.lab.cases import CASES, QualityCase, make_quick
from benchmarks.lab.quality_report import compare, draw_curves, render_page
from benchmarks.lab.records import LabError, RunKey, RunRecord, append_record, read_records
from node.cli import main

TINY = replace(make_quick(CASES["digits"]), steps=4, choosing_steps=2, seeds=1)


def make_record(key: RunKey, heldout_loss: float) -> RunRecord:
    machine = ("torch", "a machine", "versions", "2026-01-01T00:00:00+00:00")
    return RunRecord(key, (2.0, 1.0), 1.0, heldout_loss, 0.5, 100, 1.0, 1, *machine)


def finish(case: QualityCase, campaign: Campaign, losses: dict[tuple[str, int], float]) -> list[RunRecord]:
    """Answer every run with the loss of its side and rate, and return the records in order."""
    records: list[RunRecord] = []
    while (key := find_next_run(case, campaign, records)) is not None:
        records.append(make_record(key, losses[key.side, key.rate_ppm] + key.seed / 1000))
    return records


def test_order_of_runs() -> None:
    case = replace(CASES["plays"], seeds=2)
    low, middle, high = sorted(case.rates_ppm)
    losses = {("float32", low): 3.0, ("float32", middle): 2.0, ("float32", high): 4.0}
    losses |= {("integer", low): 1.9, ("integer", middle): 2.1, ("integer", high): 4.0}
    records = finish(case, Campaign(Path("nowhere")), losses)
    keys = [record.key for record in records]
    assert [(key.side, key.rate_ppm) for key in keys[:2]] == [("float32", middle), ("integer", middle)]
    assert all(key.steps == case.choosing_steps for key in keys[:6])
    assert [(key.side, key.seed, key.rate_ppm, key.steps) for key in keys[6:]] == [
        (side, seed, rate, case.steps) for seed in (1, 2) for side, rate in (("float32", middle), ("integer", low))
    ]
    assert choose_rate(case, "integer", records) == low
    comparison = compare(case, records)
    assert [pair[1].key.seed for pair in comparison.pairs] == [1, 2]
    assert comparison.compute_ratio("heldout_loss")[0] == pytest.approx((1.9015) / 2.0015)


def test_a_cut_campaign_goes_on(tmp_path: Path) -> None:
    results, said = tmp_path / "quality.jsonl", list[str]()
    campaign = Campaign(results, backend="reference", states=tmp_path / "states")
    run_campaign(TINY, campaign, said.append)
    whole = results.read_bytes()
    records = read_records(results)
    assert len(records) == 8
    run_campaign(TINY, campaign, lambda text: pytest.fail(f"ran again: {text}"))
    results.write_bytes(whole[:-10])
    assert read_records(results) == records[:-1]
    said.clear()
    run_campaign(TINY, campaign, said.append)
    assert sum("seed" in text for text in said) == 1
    again = read_records(results)
    assert again[:-1] == records[:-1]
    assert (again[-1].key, again[-1].curve, again[-1].heldout_loss) == (
        records[-1].key,
        records[-1].curve,
        records[-1].heldout_loss,
    )
    with np.load(tmp_path / "states" / f"{TINY.name}-4-1.npz") as state:
        assert state["layer0"].shape == (128, 64)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    results = tmp_path / "quality.jsonl"
    append_record(results, make_record(RunKey("digits", "integer", 1, 1, 1), 1.0))
    results.write_bytes(b"{}\n" + results.read_bytes())
    with pytest.raises(LabError, match=r"quality\.jsonl:1: found a line that is no result"):
        read_records(results)


def test_a_page_says_what_was_met_and_what_was_not_run(tmp_path: Path) -> None:
    case = replace(CASES["digits"], seeds=1)
    losses = {(side, rate): 1.0 for side in ("float32", "integer") for rate in case.rates_ppm}
    met = finish(case, Campaign(Path("nowhere")), losses)
    missed = finish(case, Campaign(Path("nowhere")), losses | {("integer", rate): 1.02 for rate in case.rates_ppm})
    cases = (case, CASES["plays"])
    assert "met (≤ 1.01)" in render_page(cases, met)
    page = render_page(cases, missed)
    assert "missed (> 1.01)" in page
    assert "not run" in page
    draw_curves(cases, missed, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_cases_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "render", "--case", "words"]) == 2
    assert "found no case 'words', expected one of digits" in capsys.readouterr().err
