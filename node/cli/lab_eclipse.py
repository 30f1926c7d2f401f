"""`mathesis lab eclipse`: poisoned addresses against the address book, as many lives of a node as one likes.

The experiment is `benchmarks.lab.eclipse`'s; here are its options.
"""

from dataclasses import replace
from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.exit_codes import CommandError, ExitCode


@click.command()
@click.option("--runs", type=click.IntRange(1), default=1_000, show_default=True, help="Lives in the widest siege.")
@click.option("--side-runs", type=click.IntRange(1), default=100, show_default=True, help="In each other siege.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the first run; others follow.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option("--quick", "is_quick", is_flag=True, help="A few runs, to see in seconds that everything runs.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("benchmarks/results"),
    show_default=True,
    help="Folder of the results.",
)
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
            out.mkdir(parents=True, exist_ok=True)
            (out / "eclipse.md").write_text(page)
        if lost := [campaign for campaign in campaigns[0] if campaign.lost_seeds]:
            sieges = ", ".join(f"{campaign.siege.prefixes} networks" for campaign in lost)
            raise CommandError(ExitCode.FAILURE, f"an eclipsed start with {sieges}; the page names the seeds")
