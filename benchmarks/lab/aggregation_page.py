"""The page and the plot of `mathesis lab aggregation`, from the records of its runs.

Both can be made at any time and show what has finished. Seeds are paired: an arm is held against the synchronous run of
the same seed, and rounds to equal loss are read off the curves of four and of one. It runs nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from benchmarks.lab.aggregation import Arm
from benchmarks.lab.aggregation_campaign import (
    ALIKE,
    CONTRIBUTORS,
    FOUR,
    ONE,
    SYNCHRONOUS,
    ArmRecord,
    Plan,
    find_record,
)
from benchmarks.lab.records import describe_now
from benchmarks.lab.tables import format_table
from ml.deltas import compute_delta_size
from ml.evaluation import HELDOUT_TOKENS
from ml.models import build_program
from ml.spec import DELTA_BITS, count_weights
from node.models.rates import format_rate

TARGET = 1.03
"""Loss of four contributors over that of synchronous training, for equal samples."""


def render_page(plan: Plan, records: Sequence[ArmRecord]) -> str:
    """Return the Markdown page over the plan's runs, and over those of other lengths where there are some."""
    mine = [record for record in records if record.steps == plan.steps]
    parts = [
        "# Aggregation: rounds beside synchronous training",
        _describe(plan),
        _format_arms(plan, mine, SYNCHRONOUS),
        f"Held-out loss in bits a byte on {plan.final_tokens:,} bytes, mean and standard deviation over the seeds; a "
        "ratio is that of the means over the seeds that both have run, behind it the smallest and the largest of a "
        f"seed. The target is {TARGET}. The last column is the ratio on the chain's own {HELDOUT_TOKENS:,} bytes.",
        "## Rounds to equal loss",
        format_table(
            ("seed", "one contributor ends at", "after rounds", "four reach it after", "times fewer"),
            _make_round_rows(plan, mine),
        ),
        f"Loss on the chain's {HELDOUT_TOKENS:,} bytes, read every {plan.curve_steps} steps.",
        "## Bytes",
        format_table(("delta", "bytes a round and contributor", "bytes a parameter"), _make_byte_rows(plan)),
        "Mantissas of a byte or half of one, and one byte a row for its exponent.",
    ]
    for steps in sorted({record.steps for record in records} - {plan.steps}):
        shorter = [record for record in records if record.steps == steps]
        rows = _format_arms(replace(plan, steps=steps), shorter, FOUR)
        parts += [f"## Beside four contributors, after {steps} steps", rows]
    parts.append(_describe_machine(records))
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def draw_curves(plan: Plan, records: Sequence[ArmRecord], path: Path) -> None:
    """Write the plot of held-out losses, each arm's mean and range over its seeds, as PNG; needs matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415 - the page alone needs no plotting library

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axis = plt.subplots(figsize=(8, 5))
    for arm in plan.arms:
        curves = [[point.heldout_loss for point in record.points] for record in _list_runs(arm, records, plan.steps)]
        if not curves:
            continue
        steps = [point.steps for point in _list_runs(arm, records, plan.steps)[0].points]
        columns = list(zip(*curves, strict=True))
        (line,) = axis.plot(
            steps, [mean(column) for column in columns], linewidth=1, label=f"{arm.name}, {len(curves)}"
        )
        low, high = list(map(min, columns)), list(map(max, columns))
        axis.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axis.set(xlabel="steps of each contributor", ylabel="held-out loss, bits a byte", yscale="log")
    axis.legend(title="arm, seeds")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def compute_rounds_to(record: ArmRecord, loss: float, steps_a_round: int) -> int | None:
    """Return after how many rounds a run is first seen at `loss` or below, or None where it never is."""
    reached = next((point.steps for point in record.points if point.heldout_loss <= loss), None)
    return None if reached is None else -(-reached // steps_a_round)


def _describe(plan: Plan) -> str:
    one = next(arm.spec for arm in plan.arms if arm.name == FOUR)
    whole = next(arm.spec for arm in plan.arms if arm.name == SYNCHRONOUS)
    alike = next(arm.spec for arm in plan.arms if arm.name == ALIKE)
    return (
        f"`mathesis lab aggregation --steps {plan.steps}`, in the exact integers of the chain. Model: `{one.model}` on "
        f"{plan.dataset}. Synchronous training takes {plan.steps} steps of {whole.batch} sequences, with one optimizer "
        f"state, a warm-up of {whole.warmup_steps} steps and a linear fall of the rate from "
        f"{format_rate(whole.learning_rate)}; {CONTRIBUTORS} contributors "
        f"take {plan.steps} steps of {one.batch} sequences each, in rounds of {one.segment_steps} steps, so that both "
        f"have seen the same number of sequences after the same number of steps; one contributor sees a quarter. The "
        f"rate of rounds rises over the first {one.warmup_rounds} to {format_rate(one.learning_rate)}, falls over "
        f"{one.decay_rounds} to a twentieth and stays there; where they are alike it is "
        f"{format_rate(alike.learning_rate)}. "
        f"All start from the same weights of a seed; batches are drawn independently. Rendered {describe_now()}."
    )


def _list_runs(arm: Arm, records: Sequence[ArmRecord], steps: int) -> list[ArmRecord]:
    return [record for record in records if (record.arm, record.steps) == (arm.name, steps)]


def _format_arms(plan: Plan, records: Sequence[ArmRecord], base: str) -> str:
    header = ("arm", "seeds", "sequences", "held-out", f"over {base}", "verdict", "on the chain's bytes")
    shown = [arm for arm in plan.arms if base == SYNCHRONOUS or _list_runs(arm, records, plan.steps)]
    return format_table(header, [_make_row(plan, arm, records, base) for arm in shown])


def _make_row(plan: Plan, arm: Arm, records: Sequence[ArmRecord], base: str) -> tuple[str, ...]:
    runs = _list_runs(arm, records, plan.steps)
    if not runs:
        return arm.name, "0", "-", "-", "-", "not run", "-"
    losses, samples = [run.heldout_loss for run in runs], mean(run.points[-1].samples for run in runs)
    spread = f" ± {stdev(losses):.4f}" if len(losses) > 1 else ""
    row = arm.name, f"{len(runs)}", f"{samples:,.0f}", f"{mean(losses):.4f}{spread}"
    pairs = [(run, other) for run in runs if (other := find_record(records, base, run.seed, plan.steps)) is not None]
    if not pairs or arm.name == base:
        return *row, "-", "", "-"
    finals = [(ours.heldout_loss, other.heldout_loss) for ours, other in pairs]
    ratio, ratios = _compute_ratio(finals), [ours / other for ours, other in finals]
    met = f"met (≤ {TARGET})" if ratio <= TARGET else f"missed (> {TARGET})"
    verdict = met if base == SYNCHRONOUS and arm.contributors == CONTRIBUTORS else ""
    own = _compute_ratio([(ours.points[-1].heldout_loss, other.points[-1].heldout_loss) for ours, other in pairs])
    return *row, f"{ratio:.4f} ({min(ratios):.4f} to {max(ratios):.4f})", verdict, f"{own:.4f}"


def _compute_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return mean(ours for ours, _ in pairs) / mean(other for _, other in pairs)


def _make_round_rows(plan: Plan, records: Sequence[ArmRecord]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in (record for record in records if record.arm == ONE):
        four = find_record(records, FOUR, one.seed, plan.steps)
        if four is None:
            continue
        loss = one.points[-1].heldout_loss
        rounds = compute_rounds_to(four, loss, plan.steps // four.rounds)
        times = "-" if rounds is None else f"{one.rounds / rounds:.1f}"
        rows.append((f"{one.seed}", f"{loss:.4f}", f"{one.rounds}", "never" if rounds is None else f"{rounds}", times))
    return rows


def _make_byte_rows(plan: Plan) -> list[tuple[str, ...]]:
    segment = next(arm.spec for arm in plan.arms if arm.name == FOUR)
    programs = {bits: build_program(replace(segment, delta_bits=bits)) for bits in sorted(DELTA_BITS, reverse=True)}
    weights = count_weights(segment.model)
    sizes = {bits: compute_delta_size(program) for bits, program in programs.items()}
    return [(f"{bits} bits", f"{size:,}", f"{size / weights:.3f}") for bits, size in sizes.items()]


def _describe_machine(records: Sequence[ArmRecord]) -> str:
    if not records:
        return "Not run."
    spent = sum(record.cpu_seconds for record in records)
    last = max(records, key=lambda record: record.finished)
    runs = f"{len(records)} runs, {spent:,.0f} s of one processor, the last {last.finished[:16]}"
    return f"{last.machine}; {last.versions}; {runs}."
