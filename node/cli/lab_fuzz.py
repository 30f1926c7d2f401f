"""`mathesis lab fuzz`: every decoder under inputs that nobody meant to write, guided by the lines they reach.

The campaign is `benchmarks.lab.fuzz`; here are its options, and what of it ends in which exit code.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.cli.lab_options import count_option, names_option, out_option, seed_option
from node.cli.output import json_option, print_record
from node.exit_codes import CommandError, ExitCode


@click.command()
@count_option(10_000_000, "Inputs a decoder.")
@seed_option("Decides every input.")
@names_option("--decoder", "A decoder, or the start of the names of some; all by default.")
@click.option("--list", "is_list", is_flag=True, help="List the decoders.")
@click.option("--replay", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Repeat a finding's file.")
@click.option(
    "--corpus",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tests/fuzz"),
    show_default=True,
    help="Folder of inputs to start from.",
)
@click.option("--keep", "is_kept", is_flag=True, help="Write the inputs worth keeping into that folder.")
@json_option
@out_option
def fuzz(
    count: int,
    seed: int,
    names: tuple[str, ...],
    replay: Path | None,
    corpus: Path,
    out: Path,
    *,
    is_list: bool,
    is_kept: bool,
    is_json: bool,
) -> None:
    """Fuzz every decoder; only typed errors, faithful values, and bounded time and memory may come of it.

    Results add up in the folder, whose page shows them all; findings are kept in its folder `findings`.
    """
    with end_in_exit_codes():
        from benchmarks.lab.fuzz.campaign import Plan, run_campaign
        from benchmarks.lab.fuzz.report import add_rows, append_row, make_row, read_rows, render_page

        if is_list or replay is not None:
            _list_decoders() if replay is None else _repeat(replay, is_json)
            return
        plan = Plan(_choose_decoders(names), count, seed, corpus, out / "findings", is_kept)
        kept, paths = out / "fuzz.jsonl", list[Path]()
        for result in run_campaign(plan, lambda line: click.echo(line, err=True)):
            append_row(kept, make_row(result))
            paths += result.paths
            if is_json:
                print_record(asdict(make_row(result)), is_json)
        page = render_page(add_rows(read_rows(kept)))
        (out / "fuzz.md").write_text(page)
        if not is_json:
            click.echo(page)
        if paths:
            lines = "\n".join(f"mathesis lab fuzz --replay {path}" for path in paths)
            raise CommandError(ExitCode.FAILURE, f"{len(paths)} inputs ended as none may\n{lines}")


def _list_decoders() -> None:
    from benchmarks.lab.fuzz.decoders import get_decoders

    for name in get_decoders():
        click.echo(name)


def _choose_decoders(names: Sequence[str]) -> tuple[str, ...]:
    from benchmarks.lab.fuzz.decoders import get_decoders

    known = list(get_decoders())
    for start in names:
        if not any(name.startswith(start) for name in known):
            raise CommandError(ExitCode.USAGE, f"found no decoder {start!r}, expected one of {', '.join(known)}")
    return tuple(name for name in known if not names or name.startswith(tuple(names)))


def _repeat(path: Path, is_json: bool) -> None:
    from benchmarks.lab.fuzz.campaign import repeat_finding

    name, verdict = repeat_finding(path)
    print_record({"decoder": name, "ending": verdict.ending.value, "detail": verdict.detail}, is_json)
    if verdict.ending.is_fault:
        raise CommandError(ExitCode.FAILURE, f"{path} still ends as none may")
