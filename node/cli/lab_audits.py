"""`mathesis lab audits`: what rational cheats gain where audits are assigned, computed and simulated.

The model is `benchmarks.lab.audit_gains`'s; here are its options.
"""

from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.exit_codes import CommandError, ExitCode

QUICK_TRIALS = 200


@click.command()
@click.option("--trials", type=click.IntRange(2), default=4_000, show_default=True, help="Segments in each setting.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of all draws.")
@click.option("--quick", "is_quick", is_flag=True, help="Few segments, to see in seconds that everything runs.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("benchmarks/results"),
    show_default=True,
    help="Folder of the results.",
)
def audits(trials: int, seed: int, out: Path, *, is_quick: bool) -> None:
    """Set profit against detection for every strategy, chance of audits, coalition and number of outsiders."""
    with end_in_exit_codes():
        from benchmarks.lab.audit_gains_page import play_cells, render_page

        count = QUICK_TRIALS if is_quick else trials
        cells = play_cells(count, seed, lambda line: click.echo(line, err=True))
        page = render_page(cells, count, seed)
        click.echo(page)
        if not is_quick:
            out.mkdir(parents=True, exist_ok=True)
            (out / "audits.md").write_text(page)
        if far := [cell for cell in cells if not cell.is_near]:
            raise CommandError(ExitCode.FAILURE, f"{len(far)} simulated means lie far from what is computed")
