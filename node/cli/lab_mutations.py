"""`mathesis lab mutations`: altered tickets, openings and light-client proofs before their checks, none to be accepted.

The campaign is `benchmarks.lab.mutations`; here are its options, and what of it ends in which exit code.
"""

from collections.abc import Sequence
from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.cli.output import json_option, print_record
from node.exit_codes import CommandError, ExitCode

FULL_COUNT = 1_000_000
"""Cases from which on a campaign's page is kept."""


@click.command()
@click.option(
    "--count", type=click.IntRange(1), default=1_050_000, show_default=True, help="Cases to draw; a few come out valid."
)
@click.option("--seed", type=click.IntRange(0, 2**63), default=1, show_default=True, help="Decides every case.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option("--target", "names", multiple=True, help="One kind of object; all by default.")
@click.option("--replay", metavar="SEED:N", help="Repeat one case and show it.")
@json_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("benchmarks/results"),
    show_default=True,
    help="Folder of the results.",
)
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
                _keep(out / "mutations.md", page)
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
    for name in names:
        if name not in known:
            raise CommandError(ExitCode.USAGE, f"found no target {name!r}, expected one of {', '.join(known)}")
    return tuple(name for name in known if not names or name in names)


def _keep(path: Path, page: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)
    click.echo(f"written to {path}", err=True)
