"""Running parts one after another, what came of each as lines of JSON, and a page of all that are there.

A part's line replaces those of its last run, so that parts can be run on their own and the page shows them all; or it
comes behind them, so that a part can be run a stretch at a time. A stretch keeps its own figures, date and load.
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
    """What came of one stretch of a part."""

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
    next_seed: int
    """Where the next stretch begins."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """How much of a part is run at once."""

    seed: int
    count: int
    jobs: int = 1
    minutes: float = float("inf")


def run_part(part: Part, stretch: Stretch, report: Report) -> Line:
    """Run a stretch of a part in a folder of its own, which is gone afterwards."""
    start_journal("error", is_json=False)
    root, start_s = Path(tempfile.mkdtemp(prefix="mathesis-reliability-")), time.monotonic()
    try:
        until_s = start_s + 60 * stretch.minutes
        result = part.run(Setup(stretch.count, stretch.seed, root, report, stretch.jobs, until_s))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    seconds, load = round(time.monotonic() - start_s), round(os.getloadavg()[0], 1)
    ends = result.figures, result.failures, result.skipped
    next_seed = stretch.seed + result.reached if result.next_seed is None else result.next_seed
    return Line(part.name, result.reached, part.count, stretch.seed, seconds, load, describe_now(), *ends, next_seed)


def find_rest(lines: Sequence[Line], part: Part) -> Stretch:
    """Return what is left of a part behind the stretches that are kept; its count is 0 when nothing is."""
    kept = [line for line in lines if line.part == part.name and not line.skipped]
    return Stretch(kept[-1].next_seed if kept else 1, max(0, part.count - sum(line.reached for line in kept)))


def read_lines(path: Path) -> list[Line]:
    """Return what is kept of earlier runs; raises LabError when it is damaged."""
    try:
        return [Line(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    except (ValueError, TypeError) as error:
        raise LabError(f"{path}: found no results ({error}), expected a part in each line; remove the file") from None


def keep_line(path: Path, line: Line, *, is_more: bool = False) -> list[Line]:
    """Put a line in the place of its part's last ones, or behind them, and return all lines in the order of the parts.

    A stretch that was not run leaves what is there as it is.
    """
    before = read_lines(path)
    if is_more and not line.skipped:
        others = [kept for kept in before if kept.part != line.part or not kept.skipped]
    elif is_more and any(kept.part == line.part for kept in before):
        return before
    else:
        others = [kept for kept in before if kept.part != line.part]
    lines = [kept for part in PARTS for kept in (*others, line) if kept.part == part.name]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(kept)) + "\n" for kept in lines))
    return lines


def render_page(lines: Sequence[Line]) -> str:
    """Return the Markdown page of all lines."""
    stretches = [(part, found) for part in PARTS if (found := [line for line in lines if line.part == part.name])]
    rows = [_format_row(part, found) for part, found in stretches]
    pages = ["# Reliability", f"`mathesis lab reliability`; {describe_run()}", _LEGEND]
    pages.append(format_table(("part", "expected", "reached", "failures", "seconds", "load average"), rows))
    for part, found in stretches:
        pages += _render_part(part, found)
    return "\n\n".join(page.rstrip("\n") for page in pages) + "\n"


_LEGEND = """Each part breaks real nodes in its way and compares what is left with what is known outside of them.
`reached` is what was run of what the target asks for. A failure names its seed: `--part NAME --seed SEED --count 1`
brings it back, except where the moment of a death or the machine's load decides. What other work shared the machine
meanwhile, its load average at the end tells. A part that was run in stretches has a column of figures for each."""


def _render_part(part: Part, lines: Sequence[Line]) -> list[str]:
    reached = sum(line.reached for line in lines)
    where = "; ".join(f"from seed {line.seed}, {line.date}" for line in lines)
    counted = f"{reached:,} of {part.count:,} {part.cases}: {where}."
    pages = [f"## {part.name.capitalize()}", f"Not run: {lines[0].skipped}." if lines[0].skipped else counted]
    names = dict.fromkeys(name for line in lines for name in line.figures)
    if names:
        header = ["value"] if len(lines) == 1 else [f"from seed {line.seed}" for line in lines]
        rows = [[name, *(line.figures.get(name, "") for line in lines)] for name in names]
        pages.append(format_table(["figure", *header], rows))
    failures = [failure for line in lines for failure in line.failures]
    return pages + (["\n".join(f"- {failure:.400}" for failure in failures[:FAILURES_SHOWN])] if failures else [])


def _format_row(part: Part, lines: Sequence[Line]) -> tuple[str, ...]:
    reached = "not run" if lines[0].skipped else f"{sum(line.reached for line in lines):,} of {part.count:,}"
    failures, seconds = sum(len(line.failures) for line in lines), sum(line.seconds for line in lines)
    loads = sorted({line.load for line in lines})
    load = f"{loads[0]}" if len(loads) == 1 else f"{loads[0]} to {loads[-1]}"
    return part.name, part.target, reached, f"{failures}", f"{seconds:,}", load
