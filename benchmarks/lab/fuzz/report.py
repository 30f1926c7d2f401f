"""What came of each decoder, as lines of JSON that add up over campaigns, and the page made of them.

A campaign that is cut has lost the decoder it was at and no more. A line that is damaged is an error.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.lab.fuzz.campaign import Result
from benchmarks.lab.fuzz.fuzzer import TRACED_EVERY, WEIGHED_EVERY
from benchmarks.lab.fuzz.judging import MEMORY_BYTES_FIXED, MEMORY_PER_BYTE, SLOW_NS, Ending
from benchmarks.lab.records import LabError, describe_machine, describe_now

INPUTS_WANTED = 10_000_000
"""Of each decoder, in all."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was tried of one decoder, and what came of it."""

    decoder: str
    inputs: int
    accepted: int
    corpus: int
    edges: int
    refusals: int
    """Kinds of refusal."""
    slowest_us: int
    peak_bytes: int
    time_ms: int
    findings: int


def make_row(result: Result) -> Row:
    """Return the row of a result."""
    tally = result.tally
    return Row(
        decoder=result.name,
        inputs=tally.inputs,
        accepted=tally.endings[Ending.ACCEPTED],
        corpus=len(tally.corpus),
        edges=len(tally.edges),
        refusals=len(tally.refusals),
        slowest_us=tally.slowest_ns // 1000,
        peak_bytes=tally.peak_bytes,
        time_ms=tally.time_ns // 10**6,
        findings=len(result.paths),
    )


def append_row(path: Path, row: Row) -> None:
    """Add a line to a file of results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file of results; raises LabError."""
    try:
        return [Row(**json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise LabError(f"{path}: found {error}, expected a result on each line") from None


def add_rows(rows: Iterable[Row]) -> list[Row]:
    """Return one row a decoder: counts and times added up, all else the highest."""
    total: dict[str, Row] = {}
    for row in rows:
        known = total.get(row.decoder)
        total[row.decoder] = row if known is None else _add(known, row)
    return list(total.values())


def _add(one: Row, other: Row) -> Row:
    added = {name: getattr(one, name) + getattr(other, name) for name in ("inputs", "accepted", "time_ms", "findings")}
    highest = ("corpus", "edges", "refusals", "slowest_us", "peak_bytes")
    return replace(one, **added, **{name: max(getattr(one, name), getattr(other, name)) for name in highest})


def render_page(rows: Sequence[Row]) -> str:
    """Return the page of all campaigns."""
    inputs, findings = sum(row.inputs for row in rows), sum(row.findings for row in rows)
    rate, least = _compute_rate(inputs, sum(row.time_ms for row in rows)), min(row.inputs for row in rows)
    lines = [
        "# Fuzzing",
        "",
        f"{describe_now()}, {describe_machine()}. `mathesis lab fuzz` adds to this page, `--replay` repeats a finding.",
        "",
        f"**{inputs:,} inputs to {len(rows)} decoders: {findings} findings.**",
        "",
        f"Wanted are {INPUTS_WANTED:,} inputs a decoder; the least that one has had are {least:,}, so that"
        f" {100 * least / INPUTS_WANTED:.2g} % of it is done. All went through at {rate:,} a second of processor time,"
        " tracing, repeats and the making of inputs included.",
        "",
        "What must hold: errors are of the decoder's own types; what is accepted is written back as the same bytes, or,"
        " where text has several forms, reads back as the same; no input takes longer than"
        f" {SLOW_NS // 10**6} ms of processor time three times over; memory stays below {MEMORY_BYTES_FIXED >> 20} MiB"
        f" and {MEMORY_PER_BYTE} times the largest input. Memory is traced for one input in {WEIGHED_EVERY} and for"
        " every one longer than all before.",
        "",
        f"Edges are steps from line to line in this project's Python, of one input in {TRACED_EVERY} and of those"
        " refused in a new way; compiled parsers are not seen. The corpus is what one campaign kept of a decoder.",
        "",
        "What was found earlier and mended stands, input by input, in `tests/benchmarks/test_fuzz_findings.py`.",
        "",
        "| decoder | inputs | accepted | corpus | edges | refusals | slowest | peak memory | inputs/s | findings |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_render_row, rows),
    ]
    return "\n".join(lines) + "\n"


def _render_row(row: Row) -> str:
    cells = (
        f"`{row.decoder}`",
        f"{row.inputs:,}",
        f"{100 * row.accepted / row.inputs:.1f} %",
        str(row.corpus),
        str(row.edges),
        str(row.refusals),
        f"{row.slowest_us / 1000:.2f} ms",
        f"{row.peak_bytes / 1024:,.0f} KiB",
        f"{_compute_rate(row.inputs, row.time_ms):,}",
        str(row.findings),
    )
    return f"| {' | '.join(cells)} |"


def _compute_rate(count: int, time_ms: int) -> int:
    return count * 1000 // max(time_ms, 1)
