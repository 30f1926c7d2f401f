"""Markdown tables and the lines about machine and date that every results page starts with.

It knows no experiment.
"""

import os
from collections.abc import Sequence

from benchmarks.lab.records import describe_machine, describe_now, describe_versions


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---" for _ in header], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def describe_run() -> str:
    """Return machine, versions, load and date in one line."""
    load = os.getloadavg()[0]
    return f"{describe_machine()}; {describe_versions()}; load average {load:.1f}; {describe_now()}."
