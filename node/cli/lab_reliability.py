"""`mathesis lab reliability`: the campaign that breaks real nodes, part by part, and its page.

The campaign is `benchmarks.lab.reliability`; here are its options. A part's last result is kept, so that parts can be
run one at a time, or a stretch at a time, and the page shows them all.
"""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from node.cli.failures import end_in_exit_codes
from node.cli.lab_options import (
    choose_names,
    count_option,
    minutes_option,
    names_option,
    out_option,
    processes_option,
    quick_option,
    seed_option,
)
from node.cli.output import json_option, print_record
from node.exit_codes import CommandError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.lab.reliability.campaign import Stretch
    from benchmarks.lab.reliability.part import Part


class Extent(TypedDict):
    """How much of each part is run."""

    count: int | None
    seed: int
    minutes: float | None
    jobs: int
    is_more: bool
    is_quick: bool


@click.command()
@names_option("--part", "One part; all by default.")
@count_option(None, "Cases of each part; what its target asks for by default.")
@seed_option("Of the first case.")
@click.option("--more", "is_more", is_flag=True, help="Go on where each part's kept results end; --seed is not asked.")
@minutes_option("Begin no further case of a part after this.")
@processes_option("--jobs", "Simulated cases at a time.")
@quick_option("Few cases, to see that everything runs; no page is written.")
@json_option
@out_option
def reliability(names: tuple[str, ...], out: Path, *, is_json: bool, **extent: Unpack[Extent]) -> None:
    """Kill, damage, fill, flood, cut off and deceive real nodes; nothing told of may be lost, no answer wrong."""
    with end_in_exit_codes():
        from dataclasses import asdict

        from benchmarks.lab.reliability.campaign import keep_line, render_page, run_part

        failures, kept = 0, out / "reliability.jsonl"
        for part, stretch in _plan(names, kept, extent):
            line = run_part(part, stretch, lambda text: click.echo(text, err=True))
            failures += len(line.failures)
            if is_json:
                print_record(asdict(line), is_json)
            for failure in line.failures:
                click.echo(f"{part.name}: {failure}", err=True)
            if not extent["is_quick"]:
                lines = keep_line(kept, line, is_more=extent["is_more"])
                (out / "reliability.md").write_text(render_page(lines))
        if failures:
            raise CommandError(ExitCode.FAILURE, f"{failures} failures; --part and --seed bring each back")


def _plan(names: tuple[str, ...], kept: Path, extent: Extent) -> "Iterator[tuple[Part, Stretch]]":
    """Yield the parts with what of each is to be run; raises CommandError for an unknown name."""
    from benchmarks.lab.reliability.campaign import Stretch, find_rest, read_lines
    from benchmarks.lab.reliability.parts import PARTS

    chosen = choose_names("part", names, [part.name for part in PARTS])
    minutes = float("inf") if extent["minutes"] is None else extent["minutes"]
    for part in PARTS:
        if part.name not in chosen:
            continue
        rest = Stretch(extent["seed"], part.quick if extent["is_quick"] else part.count)
        if extent["is_more"]:
            rest = find_rest(read_lines(kept), part)
        count = rest.count if extent["count"] is None else extent["count"]
        if count:
            yield part, Stretch(rest.seed, count, extent["jobs"], minutes)
