"""Many seeds one after another, or several at a time, with a line for each that failed and a page for all of them.

It decides nothing within a run.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

from benchmarks.lab.simulator import answer_books, task_books
from benchmarks.lab.simulator.faults import KINDS
from benchmarks.lab.simulator.invariants import JOINED, SETTLED
from benchmarks.lab.simulator.malice import MALICE
from benchmarks.lab.simulator.simulation import Result, run_seed
from benchmarks.lab.tables import describe_run, format_table

PROGRESS_EVERY = 10
COUNTED = (
    ("nodes started", "boot"),
    ("nodes killed, at the end of each run too", "crash"),
    ("nodes that stopped on a storage error", "stop"),
    ("partitions", "part"),
    ("pauses", "pause"),
    ("wrong clocks", "skew"),
    ("full disks", "full"),
    ("broken wires", "break"),
    ("lossy lines", "lossy"),
    ("visits of rogue peers", "malice"),
    ("equivocations published", "equivocation"),
    ("frames delivered", "wire"),
    ("changes of a head", "head"),
    ("reorganisations", "reorg"),
    ("compact blocks taken up", "compact"),
    ("compact blocks that were fetched whole after all", "fallback"),
    ("runs of headers with sampled work", "sampled"),
)
"""Rows of the page, and the kind of event that each counts."""
DONE = (
    ("blocks by miners that joined with a bond", JOINED),
    ("rounds settled on the final chains", SETTLED),
    ("segments committed there", "CommitContribution"),
    ("segments opened", "ProveContribution"),
    ("audits proven", "ProveAudit"),
    ("demands on segments", "DisputeContribution"),
    ("demands answered", "AnswerDispute"),
    *((name, name) for name in (*task_books.COUNTED, *answer_books.COUNTED)),
)
"""Rows of the page, and what was done on the final chains."""


@dataclass(slots=True)
class Summary:
    """What a campaign has seen."""

    seeds: int = 0
    blocks: int = 0
    deepest_reorg: int = 0
    evidence: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    failed: list[Result] = field(default_factory=list)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    virtual_s: float = 0.0

    def add(self, result: Result) -> None:
        """Take one more run."""
        self.seeds += 1
        self.blocks += result.height
        self.deepest_reorg = max(self.deepest_reorg, result.deepest_reorg)
        self.evidence += result.evidence
        self.cpu_s += result.cpu_s
        self.virtual_s += result.virtual_s
        self.counts.update(result.counts)
        self.actions.update(result.actions)
        if result.failure is not None:
            self.failed.append(result)


def run_campaign(
    seeds: Sequence[int], jobs: int, report: Callable[[str], object], limit_s: float | None = None
) -> Summary:
    """Run all seeds, `jobs` at a time, or as many as begin within `limit_s`; `report` hears progress and failures."""
    summary, start_s, results = Summary(), perf_counter(), _run_all(seeds, jobs)
    for result in results:
        summary.add(result)
        summary.wall_s = perf_counter() - start_s
        if result.failure is not None:
            report(f"seed {result.seed}: {result.failure}")
        if summary.seeds % PROGRESS_EVERY == 0:
            rate = summary.seeds / summary.wall_s
            report(f"{summary.seeds} of {len(seeds)} seeds, {len(summary.failed)} failed, {rate:.2f} seeds/s")
        if limit_s is not None and summary.wall_s > limit_s:
            results.close()
    return summary


def _run_all(seeds: Sequence[int], jobs: int) -> Generator[Result, None, None]:
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    pool = ProcessPoolExecutor(jobs)
    try:
        yield from pool.map(run_seed, seeds)
    finally:
        # Whoever has seen enough does not wait for seeds that have not begun.
        pool.shutdown(cancel_futures=True)


def render_page(seeds: Sequence[int], summary: Summary) -> str:
    """Return the results as a page."""
    rows = [[name, f"{summary.counts[kind]:,}"] for name, kind in COUNTED]
    rows += [[name, f"{summary.actions[kind]:,}"] for name, kind in DONE]
    totals = [
        ["seeds run", f"{summary.seeds:,}"],
        ["seeds that failed", f"{len(summary.failed):,}"],
        ["blocks on the final chains", f"{summary.blocks:,}"],
        ["deepest reorganisation", f"{summary.deepest_reorg:,} blocks"],
        ["pairs of evidence at the ends", f"{summary.evidence:,}"],
        ["virtual time", f"{summary.virtual_s / 3600:,.1f} h"],
        ["seeds a second", f"{summary.seeds / summary.wall_s:.2f}"],
        ["seeds a second of processor time", f"{summary.seeds / summary.cpu_s:.2f}"],
    ]
    failures = [[str(result.seed), ", ".join(result.kinds), str(result.failure)] for result in summary.failed]
    parts = [
        "# Simulated networks\n",
        f"`mathesis lab simulate --seeds {seeds[0]}..{seeds[0] + summary.seeds - 1}`: {describe_run()}\n",
        "Real node code on a virtual clock, network and disk; one seed decides everything. Kinds of faults: "
        f"{', '.join(sorted(KINDS))}. Rogue peers send: {', '.join(sorted(MALICE))}.\n",
        format_table(("what", "count"), totals + rows),
    ]
    if failures:
        parts.append(format_table(("seed", "kinds of faults", "invariant"), failures))
    return "\n".join(parts)
