"""What breaks as models grow: each failure that the design foresees, provoked here and measured with its remedy.

A probe returns a table of numbers before and after what format 2 does about it; the page puts them together with the
machine and the date. The reference backend computes, so a number is that of the format and not of a kernel.
"""

from collections.abc import Callable, Sequence

from benchmarks.lab.breaks_attention import probe_score_gradients
from benchmarks.lab.breaks_norm import probe_normalise
from benchmarks.lab.breaks_operands import probe_outlying_channels, probe_outlying_tokens
from benchmarks.lab.breaks_optimizer import probe_decay, probe_gradient_range
from benchmarks.lab.breaks_rounding import probe_row_words, probe_words
from benchmarks.lab.probe import Finding
from benchmarks.lab.tables import describe_run, format_table

PROBES: dict[str, Callable[[], Finding]] = {
    "score-gradients": probe_score_gradients,
    "outlying-channels": probe_outlying_channels,
    "decay": probe_decay,
    "gradient-range": probe_gradient_range,
    "outlying-tokens": probe_outlying_tokens,
    "normalise": probe_normalise,
    "row-words": probe_row_words,
    "rounding-words": probe_words,
}
"""By name, in the order of the page."""


def render_page(findings: Sequence[Finding]) -> str:
    """Return the Markdown page."""
    parts = ["# What breaks at scale", f"`mathesis lab breaks` on {describe_run()}"]
    for finding in findings:
        parts += [f"## {finding.title}", finding.setting, format_table(finding.header, finding.rows), finding.answer]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
