"""`mathesis lab eclipse`: poisoned addresses against the address book, as many lives of a node as one likes.

The experiment is `benchmarks.lab.eclipse`'s; here are its options.
"""

from dataclasses import replace
from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.cli.lab_options import count_option, keep_page, out_option, processes_option, quick_option, seed_option
from node.exit_codes import CommandError, ExitCode


@click.command()
@count_option(1_000, "Lives in the widest siege.", "--runs")
@count_option(100, "In each other siege.", "--side-runs")
@seed_option("Of the first run; others follow.")
@processes_option("--workers")
@quick_option("A few runs, to see in seconds that everything runs.")
@out_option
def eclipse(runs: int, side_runs: int, seed: int, workers: int, out: Path, *, is_quick: bool) -> None:
    """Poison a node's address book, restart it, and count the honest peers it has left."""
    with end_in_exit_codes():
        from benchmarks.lab.eclipse_page import QUICK, Plan, render_page, run_campaigns

        plan = QUICK if is_quick else Plan(runs, side_runs)
        plan = replace(plan, seed=seed, workers=workers)
        campaigns = run_campaigns(plan, lambda line: click.echo(line, err=True))
        page = render_page(campaigns, plan)
        click.echo(page)
        if not is_quick:
            keep_page(out / "eclipse.md", page)
        if lost := [campaign for campaign in campaigns[0] if campaign.lost_seeds]:
            sieges = ", ".join(f"{campaign.siege.prefixes} networks" for campaign in lost)
            raise CommandError(ExitCode.FAILURE, f"an eclipsed start with {sieges}; the page names the seeds")
