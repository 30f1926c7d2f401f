"""`mathesis doctor`: whether this machine computes the same bits as every other, and has what a node needs.

The checks themselves stand in `node.doctor`; here they are printed.
"""

from pathlib import Path

import click

from node.cli.output import directory_option, json_option, print_record
from node.exit_codes import ExitCode


@click.command()
@directory_option
@json_option
def doctor(directory: Path, is_json: bool) -> int:
    """Check this machine: arithmetic, clock, ports, disk."""
    from node.doctor import examine

    is_well = True
    for finding in examine(directory.expanduser()):
        is_well = is_well and finding.is_ok
        record: dict[str, object] = {"check": finding.check, "ok": finding.is_ok, "detail": finding.detail}
        print_record(record, is_json, f"{'ok  ' if finding.is_ok else 'FAIL'}  {finding.check:<12} {finding.detail}")
    return ExitCode.OK if is_well else ExitCode.FAILURE
