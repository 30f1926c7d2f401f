"""The page and the plot of a quality comparison, from the records of its runs.

Both can be made at any time: a case shows what has finished and says what has not. Seeds are paired: a ratio is that of
the means over the seeds that both sides have run. It runs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from benchmarks.lab.campaign import CURVE_STEPS, FINAL_STEPS, SIDES
from benchmarks.lab.cases import QualityCase
from benchmarks.lab.records import RunRecord, describe_now
from benchmarks.lab.tables import format_table
from ml.spec import Mlp

ROWS_MAX = 20
"""Runs of a case that are shown one by one."""
TARGET = 1.01
"""Integer loss over float32 loss at equal steps."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired runs of one case at the learning rate that each side chose."""

    case: QualityCase
    pairs: tuple[tuple[RunRecord, RunRecord], ...]
    """(float32, integer) by seed."""

    def compute_ratio(self, field: str) -> tuple[float, float]:
        """Return the ratio of the means, integer over float32, and its standard error from the seeds' own ratios."""
        values = [(float(getattr(base, field)), float(getattr(ours, field))) for base, ours in self.pairs]
        ratio = mean(ours for _, ours in values) / mean(base for base, _ in values)
        if len(values) < 2:
            return ratio, 0.0
        return ratio, stdev(ours / base for base, ours in values) / len(values) ** 0.5

    def get_values(self, side: int, field: str) -> list[float]:
        """Return a field of every run of one side (0 float32, 1 integer), by seed."""
        return [float(getattr(pair[side], field)) for pair in self.pairs]


def compare(case: QualityCase, records: Sequence[RunRecord]) -> Comparison:
    """Return the pairs that have finished."""
    by_seed: list[dict[int, RunRecord]] = []
    for side in SIDES:
        full = [record for record in records if (record.key.case, record.key.side) == (case.name, side)]
        full = [record for record in full if record.key.steps == case.steps]
        chosen = _find_chosen(case, full, [r for r in records if r.key.case == case.name and r.key.side == side])
        by_seed.append({record.key.seed: record for record in full if record.key.rate_ppm == chosen})
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    return Comparison(case, tuple((by_seed[0][seed], by_seed[1][seed]) for seed in seeds))


def render_page(cases: Sequence[QualityCase], records: Sequence[RunRecord]) -> str:
    """Return the Markdown page over the cases."""
    parts = [
        "# Quality: integer training beside float32",
        "`mathesis lab quality`. Both sides train the same architecture from the same first weights on the same "
        "batches, "
        "with Adam's betas 7/8 and 63/64, the same decoupled weight decay and the same schedule of the learning rate; "
        "each "
        "chose its rate among three by held-out loss on one seed. Losses are in bits a row (for text: bits a byte). "
        f"Rendered {describe_now()}.",
        format_table(
            ("case", "seeds", "held-out float32", "held-out integer", "ratio", f"last {FINAL_STEPS} steps", "verdict"),
            [_make_row(compare(case, records)) for case in cases],
        ),
        "Means and standard deviations over the seeds; behind a ratio of means its standard error. The target is a "
        "held-out "
        f"ratio of at most {TARGET}. Seconds are those of a machine that did other work too: they are no measure of "
        f"speed.",
    ]
    for case in cases:
        parts += _render_case(case, records)
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def draw_curves(cases: Sequence[QualityCase], records: Sequence[RunRecord], path: Path) -> None:
    """Write the plot of the training losses, each side's mean and range over the pairs, as PNG; needs matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415 - the page alone needs no plotting library

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, len(cases), figsize=(6 * len(cases), 4), squeeze=False)
    for axis, case in zip(axes[0], cases, strict=True):
        for side, colour in enumerate(("tab:orange", "tab:blue")):
            curves = [pair[side].curve for pair in compare(case, records).pairs]
            if not curves:
                continue
            steps = [CURVE_STEPS * (place + 1) for place in range(len(curves[0]))]
            points = list(zip(*curves, strict=True))
            label = f"{SIDES[side]}, mean and range of {len(curves)}"
            axis.plot(steps, [mean(point) for point in points], color=colour, linewidth=1, label=label)
            axis.fill_between(
                steps, list(map(min, points)), list(map(max, points)), color=colour, alpha=0.2, linewidth=0
            )
        axis.set(title=case.name, xlabel="step", ylabel="training loss, bits", yscale="log")
        if axis.lines:
            axis.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _find_chosen(case: QualityCase, full: Sequence[RunRecord], records: Sequence[RunRecord]) -> int:
    """Return the rate with the most seeds at full length; of equals, that of least loss among the choosing runs."""
    losses = {r.key.rate_ppm: r.heldout_loss for r in records if r.key.steps == case.choosing_steps}
    rates = {record.key.rate_ppm for record in full}
    counts = {rate: sum(record.key.rate_ppm == rate for record in full) for rate in rates}
    return min(sorted(rates), key=lambda rate: (-counts[rate], losses.get(rate, 0.0)), default=0)


def _make_row(comparison: Comparison) -> tuple[str, ...]:
    case = comparison.case
    if not comparison.pairs:
        return case.name, "0", "-", "-", "-", "-", "not run"
    ratio, error = comparison.compute_ratio("heldout_loss")
    final, final_error = comparison.compute_ratio("final_loss")
    verdict = f"met (≤ {TARGET})" if ratio <= TARGET else f"missed (> {TARGET})"
    return (
        case.name,
        f"{len(comparison.pairs)}",
        *(_format_spread(comparison.get_values(side, "heldout_loss")) for side in range(2)),
        f"{ratio:.4f} ± {error:.4f}",
        f"{final:.4f} ± {final_error:.4f}",
        verdict,
    )


def _render_case(case: QualityCase, records: Sequence[RunRecord]) -> list[str]:
    mine = [record for record in records if record.key.case == case.name]
    model = "-".join(map(str, case.model.widths)) if isinstance(case.model, Mlp) else f"{case.model}"
    title = f"## {case.name}\n\n`{model}`, batch {case.batch}, warm-up {case.steps // case.warmup_divisor} steps of "
    title += f"{case.steps}, then linear decay; weight decay {case.weight_decay_ppm / 10**6}; "
    if not mine:
        return [f"{title}not run."]
    header = (
        "side",
        "steps",
        "rate",
        "seeds",
        f"last {FINAL_STEPS}",
        "held-out",
        "accuracy",
        "s",
        "threads",
        "finished",
    )
    title += f"rates compared over {case.choosing_steps} steps; {mine[0].heldout_rows:,} held-out rows. "
    title += f"{mine[0].machine}; {mine[0].versions}."
    return [title, format_table(header, [_make_runs_row(runs) for runs in _group(mine)])]


def _group(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Return the runs of one side, length and rate together, or each alone where there are few."""
    groups: dict[tuple[int, int, int, str], list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: (record.key.seed, record.key.side)):
        key = record.key
        seed = key.seed if len(records) <= ROWS_MAX else 0
        groups.setdefault((key.steps, key.rate_ppm, seed, key.side), []).append(record)
    return [groups[key] for key in sorted(groups)]


def _make_runs_row(runs: Sequence[RunRecord]) -> tuple[str, ...]:
    key, seeds = runs[0].key, [record.key.seed for record in runs]
    return (
        key.side,
        f"{key.steps}",
        f"{key.rate_ppm / 10**6}",
        f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}",
        _format_spread([record.final_loss for record in runs]),
        _format_spread([record.heldout_loss for record in runs]),
        f"{100 * mean(record.heldout_accuracy for record in runs):.2f} %",
        f"{mean(record.seconds for record in runs):.0f}",
        f"{runs[0].threads}",
        max(record.finished for record in runs)[:16],
    )


def _format_spread(values: Sequence[float]) -> str:
    return f"{mean(values):.4f} ± {stdev(values):.4f}" if len(values) > 1 else f"{values[0]:.4f}"
