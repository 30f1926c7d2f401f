"""`mathesis lab reliability`: the campaign that breaks real nodes, part by part, and its page.

The campaign is `benchmarks.lab.reliability`; here are its options. A part's last result is kept, so that parts can be
run one at a time and the page shows them all.
"""

from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.cli.output import json_option, print_record
from node.exit_codes import CommandError, ExitCode


@click.command()
@click.option("--part", "names", multiple=True, help="One part; all by default.")
@click.option("--count", type=click.IntRange(1), help="Cases of each part; what its target asks for by default.")
@click.option("--seed", type=click.IntRange(0, 2**62), default=1, show_default=True, help="Of the first case.")
@click.option("--quick", "is_quick", is_flag=True, help="Few cases, to see that everything runs; no page is written.")
@json_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("benchmarks/results"),
    show_default=True,
    help="Folder of the results.",
)
def reliability(
    names: tuple[str, ...], count: int | None, seed: int, out: Path, *, is_quick: bool, is_json: bool
) -> None:
    """Kill, damage, fill, flood, cut off and deceive real nodes; nothing told of may be lost, no answer wrong."""
    with end_in_exit_codes():
        from dataclasses import asdict

        from benchmarks.lab.reliability.campaign import keep_line, render_page, run_part
        from benchmarks.lab.reliability.parts import PARTS

        known = [part.name for part in PARTS]
        for name in names:
            if name not in known:
                raise CommandError(ExitCode.USAGE, f"found no part {name!r}, expected one of {', '.join(known)}")
        failures = 0
        for part in PARTS:
            if names and part.name not in names:
                continue
            wanted = count or (part.quick if is_quick else part.count)
            line = run_part(part, wanted, seed, lambda text: click.echo(text, err=True))
            failures += len(line.failures)
            if is_json:
                print_record(asdict(line), is_json)
            for failure in line.failures:
                click.echo(f"{part.name}: {failure}", err=True)
            if not is_quick:
                (out / "reliability.md").write_text(render_page(keep_line(out / "reliability.jsonl", line)))
        if failures:
            raise CommandError(ExitCode.FAILURE, f"{failures} failures; --part and --seed bring each back")
