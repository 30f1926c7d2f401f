"""Running parts one after another, what came of each as a line of JSON, and a page of all that are there.

A part's line replaces the one of its last run, so that parts can be run on their own and the page shows them all.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.lab.records import LabError, describe_now
from benchmarks.lab.reliability.part import Part, Report, Setup
from benchmarks.lab.reliability.parts import PARTS
from benchmarks.lab.tables import describe_run, format_table
from node.observability.journal import start_journal

FAILURES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Line:
    """What came of a part's last run."""

    part: str
    reached: int
    wanted: int
    seed: int
    seconds: int
    load: float
    """Load average of the machine when it ended."""
    date: str
    figures: dict[str, str]
    failures: list[str]
    skipped: str


def run_part(part: Part, count: int, seed: int, report: Report) -> Line:
    """Run a part in a folder of its own, which is gone afterwards."""
    start_journal("error", is_json=False)
    root, start_s = Path(tempfile.mkdtemp(prefix="mathesis-reliability-")), time.monotonic()
    try:
        result = part.run(Setup(count, seed, root, report))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    seconds, load = round(time.monotonic() - start_s), round(os.getloadavg()[0], 1)
    ends = result.figures, result.failures, result.skipped
    return Line(part.name, result.reached, part.count, seed, seconds, load, describe_now(), *ends)


def read_lines(path: Path) -> list[Line]:
    """Return what is kept of earlier runs; raises LabError when it is damaged."""
    try:
        return [Line(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    except (ValueError, TypeError) as error:
        raise LabError(f"{path}: found no results ({error}), expected a part in each line; remove the file") from None


def keep_line(path: Path, line: Line) -> list[Line]:
    """Put a line in the place of its part's last one and return all lines, in the order of the parts."""
    by_name = {kept.part: kept for kept in read_lines(path)} | {line.part: line}
    lines = [by_name[part.name] for part in PARTS if part.name in by_name]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(kept)) + "\n" for kept in lines))
    return lines


def render_page(lines: Sequence[Line]) -> str:
    """Return the Markdown page of all lines."""
    names = {part.name: part for part in PARTS}
    rows = [_format_row(names[line.part], line) for line in lines]
    parts = ["# Reliability", f"`mathesis lab reliability`; {describe_run()}", _LEGEND]
    parts.append(format_table(("part", "expected", "reached", "failures", "seconds", "load average"), rows))
    for line in lines:
        parts.append(f"## {line.part.capitalize()}")
        counted = f"{line.reached:,} of {line.wanted:,} {names[line.part].cases}, from seed {line.seed}, {line.date}."
        parts.append(f"Not run: {line.skipped}." if line.skipped else counted)
        if line.figures:
            parts.append(format_table(("figure", "value"), list(line.figures.items())))
        parts += ["\n".join(f"- {failure:.400}" for failure in line.failures[:FAILURES_SHOWN])] if line.failures else []
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


_LEGEND = """Each part breaks real nodes in its way and compares what is left with what is known outside of them.
`reached` is what was run of what the target asks for. A failure names its seed: `--part NAME --seed SEED --count 1`
brings it back, except where the moment of a death or the machine's load decides. Latencies were measured on a machine
that other work shared; its load average stands beside them."""


def _format_row(part: Part, line: Line) -> tuple[str, ...]:
    reached = "not run" if line.skipped else f"{line.reached:,} of {line.wanted:,}"
    return part.name, part.target, reached, f"{len(line.failures)}", f"{line.seconds:,}", f"{line.load}"
