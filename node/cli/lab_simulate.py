"""`mathesis lab simulate`: whole networks of real nodes on virtual clocks, wires and disks, a seed a network.

What happens in one and what must hold is `benchmarks.lab.simulator`'s; here are its options. A failure names its seed,
and the seed alone brings it back.
"""

import re
from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.cli.lab_options import minutes_option, processes_option
from node.exit_codes import CommandError, ExitCode

SEEDS_MAX = 1_000_000


@click.command()
@click.option("--seeds", "span", default="0..99", show_default=True, help="First and last seed.")
@click.option("--seed", type=click.IntRange(0), help="Run this one alone.")
@click.option("--trace", "is_traced", is_flag=True, help="With --seed: print every event.")
@processes_option("--jobs", "Seeds run at a time.")
@minutes_option("Begin no further seed after this long.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the results to this page.")
def simulate(
    span: str, seed: int | None, jobs: int, minutes: float | None, out: Path | None, *, is_traced: bool
) -> None:
    """Run simulated networks through faults and malice, and check what must always hold."""
    with end_in_exit_codes():
        if seed is not None:
            _replay(seed, is_traced=is_traced)
            return
        from benchmarks.lab.simulator.campaign import render_page, run_campaign

        seeds = _parse_span(span)
        summary = run_campaign(
            seeds, jobs, lambda line: click.echo(line, err=True), None if minutes is None else 60 * minutes
        )
        page = render_page(seeds, summary)
        click.echo(page)
        if out is not None:
            out.write_text(page)
        if summary.failed:
            numbers = ", ".join(str(result.seed) for result in summary.failed)
            raise CommandError(ExitCode.FAILURE, f"invariants broke in seeds {numbers}; see --seed N --trace")


def _replay(seed: int, *, is_traced: bool) -> None:
    from benchmarks.lab.simulator.simulation import run_seed

    result = run_seed(seed, click.echo if is_traced else None)
    click.echo(f"seed {seed}: height {result.height}, events {result.digest}, faults: {', '.join(result.kinds)}")
    if result.failure is not None:
        raise CommandError(ExitCode.FAILURE, f"seed {seed}: {result.failure}")


def _parse_span(text: str) -> range:
    found = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", text)
    if found is None or not 0 <= int(found[2]) - int(found[1]) < SEEDS_MAX:
        raise CommandError(
            ExitCode.USAGE, f"found seeds {text!r}, expected a span such as 0..99 of at most {SEEDS_MAX}"
        )
    return range(int(found[1]), int(found[2]) + 1)
