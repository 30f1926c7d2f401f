"""`mathesis lab mutations`: altered tickets, openings and light-client proofs before their checks, none to be accepted.

The campaign is `benchmarks.lab.mutations`; here are its options, and what of it ends in which exit code.
"""

from collections.abc import Sequence
from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.cli.lab_options import (
    choose_names,
    count_option,
    keep_page,
    names_option,
    out_option,
    processes_option,
    seed_option,
)
from node.cli.output import json_option, print_record
from node.exit_codes import CommandError, ExitCode

FULL_COUNT = 1_000_000
"""Cases from which on a campaign's page is kept."""


@click.command()
@count_option(1_050_000, "Cases to draw; a few come out valid.")
@seed_option("Decides every case.")
@processes_option("--workers")
@names_option("--target", "One kind of object; all by default.")
@click.option("--replay", metavar="SEED:N", help="Repeat one case and show it.")
@json_option
@out_option
def mutations(
    count: int, seed: int, workers: int, names: tuple[str, ...], replay: str | None, *, is_json: bool, out: Path
) -> None:
    """Alter tickets, openings and light-client proofs in every way; none may be accepted."""
    with end_in_exit_codes():
        from benchmarks.lab.mutations.campaign import Plan, run_campaign
        from benchmarks.lab.mutations.report import list_faults, make_records, render_page

        if replay is not None:
            _repeat(replay, is_json)
            return
        plan = Plan(seed, count, workers, _check_targets(names))
        tally = run_campaign(plan, lambda line: click.echo(line, err=True))
        if is_json:
            for record in make_records(plan, tally):
                print_record(record, is_json)
        else:
            page = render_page(plan, tally)
            click.echo(page)
            if count >= FULL_COUNT and not names:
                keep_page(out / "mutations.md", page)
        if tally.fault_count:
            lines = "\n".join(list_faults(plan, tally))
            raise CommandError(ExitCode.FAILURE, f"{tally.fault_count} cases ended as none may\n{lines}")


def _repeat(case: str, is_json: bool) -> None:
    from benchmarks.lab.mutations.campaign import repeat_case

    seed, _, number = case.partition(":")
    if not all(part.isascii() and part.isdigit() for part in (seed, number)):
        raise CommandError(ExitCode.USAGE, f"found case {case!r}, expected SEED:N such as 1:4711")
    print_record(repeat_case(int(seed), int(number)), is_json)


def _check_targets(names: Sequence[str]) -> tuple[str, ...]:
    from benchmarks.lab.mutations.targets import TARGETS

    known = [target.name for target in TARGETS]
    chosen = choose_names("target", names, known)
    return tuple(name for name in known if name in chosen)
