"""`mathesis lab`: experiments on integer training, with their results as pages and plots.

The experiments are `benchmarks.lab`'s; here are their options. Runs that have finished are kept, so that every command
can be cut and started again.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.failures import end_in_exit_codes
from node.cli.lab_aggregation import aggregation
from node.cli.lab_audits import audits
from node.cli.lab_eclipse import eclipse
from node.cli.lab_fuzz import fuzz
from node.cli.lab_mutations import mutations
from node.cli.lab_options import (
    choose_names,
    count_option,
    keep_page,
    names_option,
    out_option,
    quick_option,
    threads_option,
)
from node.cli.lab_parties import parties
from node.cli.lab_perturb import perturb
from node.cli.lab_reliability import reliability
from node.cli.lab_simulate import simulate
from node.cli.output import json_option, print_record
from node.exit_codes import CommandError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.lab.cases import QualityCase

case_option = names_option("--case", "One of the cases; all by default.")


@click.group()
def lab() -> None:
    """Compare integer training with float32, find out what breaks, and attack the proof."""


lab.add_command(aggregation)
lab.add_command(audits)
lab.add_command(eclipse)
lab.add_command(fuzz)
lab.add_command(mutations)
lab.add_command(parties)
lab.add_command(perturb)
lab.add_command(reliability)
lab.add_command(simulate)


@lab.command()
@case_option
@click.option("--steps", type=click.IntRange(2, 65_535), help="Steps of the compared runs; the case's own by default.")
@count_option(None, "Seeds at the chosen rate; the case's own number by default.", "--seeds")
@click.option("--side", type=click.Choice(["both", "integer", "float32"]), default="both", show_default=True)
@click.option("--backend", type=click.Choice(["cpu", "reference"]), default="cpu", show_default=True)
@click.option("--states", type=click.Path(path_type=Path, file_okay=False), help="Keep integer runs' weights here.")
@quick_option("Tiny models and forty steps, to see that everything runs.")
@threads_option()
@out_option
def quality(
    names: tuple[str, ...],
    steps: int | None,
    seeds: int | None,
    side: str,
    backend: str,
    states: Path | None,
    threads: int,
    out: Path,
    *,
    is_quick: bool,
) -> None:
    """Compare losses of integer training and float32 AdamW at equal steps."""
    with end_in_exit_codes():
        from benchmarks.lab.campaign import SIDES, Campaign, run_campaign

        cases = _get_cases(names, steps, is_quick)
        results = out / f"{_get_name(steps, is_quick)}.jsonl"
        sides = SIDES if side == "both" else (side,)
        campaign = Campaign(results, sides, seeds, backend, threads, states)
        for case in cases:
            run_campaign(case, campaign, click.echo)
        _render(cases, results)


@lab.command()
@case_option
@click.option("--steps", type=click.IntRange(2, 65_535), help="As the runs had it.")
@quick_option("Render quick runs.")
@out_option
def render(names: tuple[str, ...], steps: int | None, out: Path, *, is_quick: bool) -> None:
    """Make page and plot of whatever quality runs have finished."""
    with end_in_exit_codes():
        cases = _get_cases(names, steps, is_quick)
        _render(cases, out / f"{_get_name(steps, is_quick)}.jsonl")


@lab.command()
@click.option("--width", "widths", type=click.IntRange(32), multiple=True, default=(256, 512), show_default=True)
@count_option(15, "Steps of each side.", "--steps")
@threads_option(2)
@out_option
def speed(widths: tuple[int, ...], steps: int, threads: int, out: Path) -> None:
    """Time an integer step beside a float32 step."""
    with end_in_exit_codes():
        from benchmarks.lab.speed import HEAD_WIDTH, Plan, run_speed

        if odd := [width for width in widths if width % HEAD_WIDTH]:
            raise CommandError(ExitCode.USAGE, f"found width {odd[0]}, expected a multiple of {HEAD_WIDTH}")
        page = run_speed(Plan(widths, threads, steps), click.echo)
        _write(out / "speed.md", page)


@lab.command()
@click.option("--rows", default="", help="Numbers of threats, such as 1,2,52; all by default.")
@quick_option("Few trials, to see in seconds that every case ends as expected.")
@json_option
@out_option
def attacks(rows: str, out: Path, *, is_quick: bool, is_json: bool) -> None:
    """Attack the proof of learning, and compare detection and cost with what is computed."""
    with end_in_exit_codes():
        from benchmarks.lab.attacks.case import FULL, QUICK
        from benchmarks.lab.attacks.suite import load_attacks, make_record, render_page, run_suite

        effort = QUICK if is_quick else FULL
        chosen = load_attacks(_parse_rows(rows))
        if not chosen:
            raise CommandError(ExitCode.USAGE, f"found no case for the threats {rows}, expected numbers of some")
        results = run_suite(chosen, effort, lambda line: click.echo(line, err=True))
        page = render_page(results, effort)
        if is_json:
            for result in results:
                print_record(make_record(result), is_json)
        elif rows or is_quick:
            click.echo(page)
        else:
            _write(out / "attacks.md", page)
        wrong = [result.attack.name for result in results if not result.is_as_expected]
        if wrong:
            raise CommandError(ExitCode.FAILURE, f"not as expected: {', '.join(wrong)}")


def _parse_rows(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise CommandError(ExitCode.USAGE, f"found rows {text!r}, expected numbers such as 1,2,52") from None


@lab.command()
@names_option("--only", "Name of a probe; all by default.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Look into a kept run of the plays too.",
)
@out_option
def breaks(names: tuple[str, ...], weights: Path | None, out: Path) -> None:
    """Provoke what breaks at scale, and measure it with and without its remedy."""
    with end_in_exit_codes():
        from benchmarks.lab.breaks import PROBES, render_page

        findings = []
        for name in choose_names("probe", names, list(PROBES)):
            click.echo(f"probing {name}")
            findings.append(PROBES[name]())
        if weights is not None:
            from benchmarks.lab.breaks_trained import probe_trained

            findings.append(probe_trained(weights))
        page = render_page(findings)
        if names:
            click.echo(page)
        else:
            _write(out / "breaks.md", page)


@lab.command()
@quick_option("Few repeats and small products, to see that everything runs.")
@out_option
def verifiers(out: Path, *, is_quick: bool) -> None:
    """Compare spot checks, Freivalds and re-execution of a step: cost, bytes, memory, soundness."""
    with end_in_exit_codes():
        from benchmarks.verifiers import QUICK, Plan, run_report

        page = run_report(QUICK if is_quick else Plan(), click.echo)
        if is_quick:
            click.echo(page)
        else:
            _write(out / "verifiers.md", page)


@lab.command()
@case_option
@click.option("--repeats", type=click.IntRange(1, 100_000), default=101, show_default=True, help="Samples of ours.")
@click.option("--proofs", type=click.IntRange(1, 1000), default=3, show_default=True, help="Proofs of EZKL's.")
@out_option
def peers(names: tuple[str, ...], repeats: int, proofs: int, out: Path) -> None:
    """Compare our proof of a step and of a layer with EZKL's, where that is installed (mathesis[peers])."""
    with end_in_exit_codes():
        from benchmarks.lab.peers import run_peers
        from benchmarks.lab.peers_case import CASES, Plan

        cases = [CASES[name] for name in choose_names("case", names, list(CASES))]
        page = run_peers(cases, Plan(repeats, proofs), lambda line: click.echo(line, err=True))
        if names:
            click.echo(page)
        else:
            _write(out / "peers.md", page)


def _get_cases(names: "Sequence[str]", steps: int | None, is_quick: bool) -> "list[QualityCase]":
    from benchmarks.lab.cases import CASES, make_quick

    cases = [CASES[name] for name in choose_names("case", names, list(CASES))]
    if is_quick:
        cases = [make_quick(case) for case in cases]
    if steps is not None:
        cases = [replace(case, steps=steps, choosing_steps=min(steps, case.choosing_steps)) for case in cases]
    return cases


def _get_name(steps: int | None, is_quick: bool) -> str:
    return f"quality{'-quick' * is_quick}{f'-{steps}-steps' if steps else ''}"


def _render(cases: "Sequence[QualityCase]", results: Path) -> None:
    from benchmarks.lab.quality_report import draw_curves, render_page
    from benchmarks.lab.records import read_records

    records = read_records(results)
    if not records:
        raise CommandError(
            ExitCode.USAGE, f"found no runs in {results}, expected some; run `mathesis lab quality` first"
        )
    _write(results.with_suffix(".md"), render_page(cases, records))
    try:
        draw_curves(cases, records, results.with_suffix(".png"))
    except ImportError:
        click.echo("no plot: matplotlib is missing; install mathesis[lab]", err=True)


def _write(path: Path, page: str) -> None:
    click.echo(page)
    keep_page(path, page)
