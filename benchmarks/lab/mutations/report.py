"""The page of a campaign, and its lines of JSON: counts by target, kind and refusing rule, time and memory.

It counts nothing itself. What valid objects cost stands beside what refusing costs.
"""

from collections.abc import Iterator, Sequence

from benchmarks.lab.mutations.campaign import Plan, measure_honest
from benchmarks.lab.mutations.cases import FORGED, MEMORY_BYTES_FIXED, MEMORY_PER_BYTE, TRACED_EVERY, TWICE, Ending
from benchmarks.lab.mutations.tally import Spread, Tally
from benchmarks.lab.mutations.targets import TARGETS
from benchmarks.lab.tables import describe_run, format_table

LEGEND = f"""Every case shows one altered object to the project's own check of it. {FORGED:.0%} are forgeries,
made with what the object's maker knew and consistent as far as that goes, the others come from mutators of bytes and
of msgpack; {TWICE:.0%} are altered once more. A refusal is a typed error that names a rule. Whatever else is raised is
a crash, a warning of arithmetic too. Times are processor time, decoding included. Memory is what a check allocates,
traced in one case of {TRACED_EVERY}; more than {MEMORY_BYTES_FIXED >> 20} MiB and {MEMORY_PER_BYTE} bytes for each
that was shown is a fault."""

EXCLUDED = """Not counted are cases that came out byte for byte as they were, and these, which are valid by rights:

- *tickets*: a digest computed truly at another place, or on another operand, that happens to win. That is mining.
- *openings*: another row pointed at as a column's tallest that is tall enough. It shows the same exponent.
- *light client answers*: the client ends with the belief that honest answers give it. The answer said the same in
  other words, or differed where nothing is believed (unknown keys, a head that headers replace, the pool's next nonce).
- *paid answers*: another opening where the answer has no such place. The answer alone shows the challenge void.

No case alters what a signer may choose (state root, transactions root, a time within bounds), or what only an opening
could tell of a header that is shown without one, and none signs a second content with the miner's own key."""

COUNTS = ("target", "counted", "refused", "accepted", "crashed", "too much memory", "came out the same", "by rights")
COSTS = (
    *("target", "valid, bytes", "valid, µs", "refused, µs", "99 %", "most"),
    *("valid, peak KiB", "refused, peak KiB", "largest shown, bytes"),
)


def render_page(plan: Plan, tally: Tally) -> str:
    """Return the Markdown page of a campaign."""
    targets = [target for target in TARGETS if target.name in plan.names]
    named = "".join(f' --target "{target.name}"' for target in targets) if len(targets) < len(TARGETS) else ""
    command = f"`mathesis lab mutations --count {plan.count} --seed {plan.seed} --workers {plan.workers}{named}`"
    parts = ["# Mutations", f"{command}; {describe_run()}", _summarise(tally), LEGEND]
    if tally.faults:
        parts += ["## Faults", "\n".join(list_faults(plan, tally))]
    parts.append(format_table(COUNTS, [_format_counts(target.name, tally) for target in targets]))
    parts += [EXCLUDED, "What a check costs, of valid objects and of refused ones (medians, and 99 of 100):"]
    parts.append(format_table(COSTS, [_format_cost(target.name, tally) for target in targets]))
    for target in targets:
        parts += [f"## {target.name.capitalize()}", f"Shown: {target.shown}."]
        parts.append(format_table(("altered", "counted", "not counted"), list(_iter_kinds(target.name, tally))))
        rows = [_format_rule(target.name, rule, number, tally) for rule, number in tally.iter_rules(target.name)]
        parts.append(format_table(("refused by", "cases", "median, µs", "99 %", "peak, KiB"), rows))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def list_faults(plan: Plan, tally: Tally) -> list[str]:
    """Return a line for each fault, with how to repeat it."""
    return [
        f"- {each.target}, {each.kind}: {each.ending.value}; {each.detail:.300}; --replay {plan.seed}:{each.number}"
        for each in tally.faults
    ]


def make_records(plan: Plan, tally: Tally) -> Iterator[dict[str, object]]:
    """Yield the fields of a JSON object for each target and rule."""
    for target in (target for target in TARGETS if target.name in plan.names):
        name, honest = target.name, measure_honest(target.name)
        yield {
            "target": name,
            **{ending.name.lower(): tally.count(ending, target=name) for ending in Ending},
            "valid_us": round(honest.time_us, 1),
            "valid_peak_bytes": honest.peak_bytes,
            **_list_measures(tally.get_spread(name), tally.get_peak_bytes(name)),
        }
        for rule, number in tally.iter_rules(name):
            measures = _list_measures(tally.get_spread(name, rule), tally.get_peak_bytes(name, rule))
            yield {"target": name, "rule": rule, "refused": number, **measures}


def _list_measures(spread: Spread | None, peak_bytes: int | None) -> dict[str, object]:
    times = (None,) * 3 if spread is None else (spread.median_us, spread.high_us, spread.max_us)
    rounded = [None if time is None else round(time, 1) for time in times]
    return {**dict(zip(("median_us", "high_us", "max_us"), rounded, strict=True)), "peak_bytes": peak_bytes}


def _summarise(tally: Tally) -> str:
    accepted, crashed, hoarded = map(tally.count, (Ending.ACCEPTED, Ending.CRASHED, Ending.HOARDED))
    return (
        f"**{tally.counted:,} mutations: {accepted} accepted, {crashed} crashes, {hoarded} held too much memory.** "
        f"A worker's resident memory never rose more than {tally.grown_bytes / 2**20:.0f} MiB above what it was after "
        "all valid objects, forging included."
    )


def _format_counts(name: str, tally: Tally) -> Sequence[str]:
    counted = tally.count(*(ending for ending in Ending if ending.is_counted), target=name)
    return (name, f"{counted:,}", *(f"{tally.count(ending, target=name):,}" for ending in Ending))


def _format_cost(name: str, tally: Tally) -> Sequence[str]:
    honest = measure_honest(name)
    return (
        *(name, f"{honest.size_bytes:,}", f"{honest.time_us:,.0f}", *_format_spread(tally.get_spread(name))),
        *(_format_kib(honest.peak_bytes), _format_kib(tally.get_peak_bytes(name))),
        f"{tally.shown_bytes.get(name, 0):,}",
    )


def _format_rule(name: str, rule: str, number: int, tally: Tally) -> Sequence[str]:
    spread = _format_spread(tally.get_spread(name, rule))
    return (rule, f"{number:,}", *spread[:2], _format_kib(tally.get_peak_bytes(name, rule)))


def _format_spread(spread: Spread | None) -> tuple[str, str, str]:
    if spread is None:
        return "-", "-", "-"
    return f"{spread.median_us:,.0f}", f"{spread.high_us:,.0f}", f"{spread.max_us:,.0f}"


def _format_kib(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / 1024:,.0f}"


def _iter_kinds(name: str, tally: Tally) -> Iterator[Sequence[str]]:
    for kind in sorted({of_kind for target, of_kind, _ in tally.kinds if target == name}):
        both = [
            tally.count(*(e for e in Ending if e.is_counted is is_counted), target=name, kind=kind)
            for is_counted in (True, False)
        ]
        yield kind, *(f"{number:,}" for number in both)
