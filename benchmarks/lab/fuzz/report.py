"""The page of a campaign, and its records: what was tried of each decoder, what came of it, and what nobody tried."""

from collections.abc import Iterator, Sequence

from benchmarks.lab.fuzz.campaign import Plan, Result
from benchmarks.lab.fuzz.fuzzer import TRACED_EVERY, WEIGHED_EVERY
from benchmarks.lab.fuzz.judging import MEMORY_BYTES_FIXED, MEMORY_PER_BYTE, SLOW_NS, Ending
from benchmarks.lab.records import describe_machine, describe_now

INPUTS_WANTED = 10_000_000
"""Of each decoder, in a full campaign."""

Fields = dict[str, object]


def make_records(results: Sequence[Result]) -> Iterator[Fields]:
    """Yield what came of each decoder as the fields of a JSON object."""
    for result in results:
        tally = result.tally
        yield {
            "decoder": result.name,
            "inputs": tally.inputs,
            **{ending.value: tally.endings[ending] for ending in Ending},
            "corpus": len(tally.corpus),
            "edges": len(tally.edges),
            "refusals": len(tally.refusals),
            "slowest_us": tally.slowest_ns // 1000,
            "peak_bytes": tally.peak_bytes,
            "inputs_per_s": _compute_rate(tally.inputs, tally.time_ns),
            "findings": [str(path) for path in result.paths],
        }


def render_page(plan: Plan, results: Sequence[Result]) -> str:
    """Return the page of a campaign."""
    inputs = sum(result.tally.inputs for result in results)
    time_ns = sum(result.tally.time_ns for result in results)
    faults = sum(len(result.paths) for result in results)
    least = min((result.tally.inputs for result in results), default=0)
    lines = [
        "# Fuzzing",
        "",
        f"{describe_now()}, {describe_machine()}. Seed {plan.seed}; `mathesis lab fuzz --seed {plan.seed}"
        f" --count {plan.count}`.",
        "",
        f"**{inputs:,} inputs to {len(results)} decoders: {faults} findings.**",
        "",
        f"A full campaign is {INPUTS_WANTED:,} inputs a decoder; this one gave each {least:,} or more,"
        f" {100 * least / INPUTS_WANTED:.2g} % of that, at {_compute_rate(inputs, time_ns):,} inputs a second of"
        " processor time, tracing, repeats and the making of inputs included.",
        "",
        "What must hold: errors are of the decoder's own types; what is accepted is written back as the same bytes, or,"
        " where text has several forms, reads back as the same; no input takes longer than"
        f" {SLOW_NS // 10**6} ms of processor time three times over; memory stays below {MEMORY_BYTES_FIXED >> 20} MiB"
        f" and {MEMORY_PER_BYTE} times the largest input. Memory is traced for one input in {WEIGHED_EVERY} and for"
        " every one longer than all before.",
        "",
        f"Edges are steps from line to line in this project's Python, of one input in {TRACED_EVERY} and of those"
        " refused in a new way; compiled parsers are not seen. Rates are of a machine that did other work beside.",
        "",
        "| decoder | inputs | accepted | corpus | edges | refusals | slowest | peak memory | inputs/s | findings |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_make_row, results),
    ]
    return "\n".join(lines) + "\n"


def _make_row(result: Result) -> str:
    tally = result.tally
    cells = (
        f"`{result.name}`",
        f"{tally.inputs:,}",
        f"{100 * tally.endings[Ending.ACCEPTED] / max(tally.inputs, 1):.1f} %",
        str(len(tally.corpus)),
        str(len(tally.edges)),
        str(len(tally.refusals)),
        f"{tally.slowest_ns / 1e6:.2f} ms",
        f"{tally.peak_bytes / 1024:,.0f} KiB",
        f"{_compute_rate(tally.inputs, tally.time_ns):,}",
        str(len(result.paths)),
    )
    return f"| {' | '.join(cells)} |"


def _compute_rate(count: int, time_ns: int) -> int:
    return count * 10**9 // max(time_ns, 1)
