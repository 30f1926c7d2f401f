"""`mathesis lab parties`: five parties on a network of real processes, everybody's balance derived by hand at the end.

The story is `benchmarks.lab.parties`; here are its options.
"""

from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.cli.lab_options import base_port_option, keep_page, out_option
from node.cli.output import json_option, print_record
from node.exit_codes import CommandError, ExitCode


@click.command()
@click.option("--rounds", type=click.IntRange(2, 1_000), default=3, show_default=True, help="Settled rounds at least.")
@base_port_option(4_860, "First of four.")
@json_option
@out_option
def parties(rounds: int, base_port: int, out: Path, *, is_json: bool) -> None:
    """Let an owner of data, an author, two contributors and a buyer trade; derive all balances from the blocks."""
    with end_in_exit_codes():
        import asyncio
        import tempfile

        from benchmarks.lab.parties.report import render_page
        from benchmarks.lab.parties.story import play

        with tempfile.TemporaryDirectory(prefix="mathesis-parties-") as root:
            outcome = asyncio.run(play(Path(root) / "network", base_port, rounds))
        for line in outcome.lines:
            text = f"{'ok  ' if line.is_equal else 'FAIL'} {line.name}: {line.found:,} found, {line.expected:,} derived"
            fields = {"name": line.name, "found": str(line.found), "expected": str(line.expected)}
            print_record(fields | {"equal": line.is_equal}, is_json, text)
        keep_page(out / "parties.md", render_page(outcome))
        if not outcome.is_good:
            raise CommandError(ExitCode.FAILURE, "something is not what the blocks say, or a forger was not caught")
