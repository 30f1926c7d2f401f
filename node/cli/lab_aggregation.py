"""`mathesis lab aggregation`: one model trained in rounds by several contributors, beside synchronous training.

The experiment is `benchmarks.lab.aggregation`; here are its options. Runs that have finished are kept, so that the
command can be cut and started again.
"""

from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.cli.lab_options import SEED_MAX, choose_names, names_option, out_option, quick_option, threads_option

STEPS = 2_000
"""Of each contributor, and of synchronous training: the least that the comparison is asked for."""
SEEDS = (1, 2, 3)


@click.command()
@click.option("--steps", type=click.IntRange(50, 65_535), default=STEPS, show_default=True, help="Of each contributor.")
@click.option("--seed", "seeds", type=click.IntRange(1, SEED_MAX), multiple=True, default=SEEDS, show_default=True)
@names_option("--arm", "One way to train; all by default.")
@click.option("--render", "is_rendering", is_flag=True, help="Run nothing; make page and plot of what has finished.")
@quick_option("A tiny model and eight steps, to see that everything runs.")
@threads_option()
@out_option
def aggregation(
    steps: int,
    seeds: tuple[int, ...],
    names: tuple[str, ...],
    threads: int,
    out: Path,
    *,
    is_rendering: bool,
    is_quick: bool,
) -> None:
    """Train one model in rounds, by four contributors and by one, and synchronously on as many samples."""
    with end_in_exit_codes():
        from dataclasses import replace

        from benchmarks.lab.aggregation_campaign import make_plan, read_arm_records, run_campaign
        from benchmarks.lab.aggregation_page import draw_curves, render_page
        from node.backends import make_backend
        from node.datasets import load_dataset
        from node.exit_codes import CommandError, ExitCode

        plan, results = make_plan(steps, is_quick=is_quick), out / f"aggregation{'-quick' * is_quick}.jsonl"
        wanted = choose_names("arm", names, [arm.name for arm in plan.arms])
        if not is_rendering:
            chosen = replace(plan, arms=tuple(arm for arm in plan.arms if arm.name in wanted))
            dataset, backend = load_dataset(plan.dataset, plan.heldout), make_backend("cpu", threads)
            run_campaign(chosen, seeds, results, dataset, backend, lambda text: click.echo(text, err=True))
        records = read_arm_records(results)
        if not records:
            raise CommandError(ExitCode.USAGE, f"found no runs in {results}, expected some; leave out --render")
        page = render_page(plan, records)
        results.with_suffix(".md").write_text(page)
        click.echo(page)
        try:
            draw_curves(plan, records, results.with_suffix(".png"))
        except ImportError:
            click.echo("no plot: matplotlib is missing; install mathesis[lab]", err=True)
