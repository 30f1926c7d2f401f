"""Parts that the deterministic simulator plays: whole networks of real nodes on a virtual clock, one seed each.

Faults are drawn from the seed, so a part takes those seeds whose faults are its own, and each such run is held to every
invariant of the simulator: equal work within thirty seconds of healing, and one tip as soon as a block decides, is one
of them. Address books under siege are the eclipse's. Nothing is simulated here.
"""

from dataclasses import dataclass
from functools import partial
from itertools import count, islice

from benchmarks.lab.eclipse import Siege, run_siege
from benchmarks.lab.reliability.part import Result, Setup, compute_quantile, run_cases, tell
from benchmarks.lab.simulator.setting import INTERVAL_MS
from benchmarks.lab.simulator.simulation import Simulation

INTERVALS = 3
"""Block intervals in which most networks ought to be healed."""
SIEGE = Siege(prefixes=256)


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a seed; `failure` is empty when every invariant held."""

    seed: int
    counts: dict[str, int]
    height: int
    deepest_reorg: int
    healed_s: float | None
    failure: str


def run_partitions(setup: Setup) -> Result:
    """Run seeds that cut networks in two."""
    return _run_simulations(setup, "partition", "part")


def run_clocks(setup: Setup) -> Result:
    """Run seeds in which a node's clock is wrong, by an hour at most."""
    return _run_simulations(setup, "wrong clock", "skew")


def _run_simulations(setup: Setup, kind: str, event: str) -> Result:
    result, runs = Result(), list[Run]()
    for run in run_cases(setup, _run, _list_seeds(setup.seed, kind, setup.count)):
        runs.append(run)
        result.reached += 1
        if run.failure:
            result.fail(run.seed, run.failure)
        tell(setup, result, f"seeds with a {kind}")
    result.next_seed = runs[-1].seed + 1
    result.figures = {
        f"times that a {kind} began": f"{sum(run.counts.get(event, 0) for run in runs):,}",
        "blocks on the best chains": f"{sum(run.height for run in runs):,}",
        "deepest reorganisation": f"{max(run.deepest_reorg for run in runs)} blocks",
        "first and last seed": f"{runs[0].seed}, {runs[-1].seed}",
        **_describe_healing(runs),
    }
    return result


def _describe_healing(runs: list[Run]) -> dict[str, str]:
    """Return how long networks took to one tip, those left out that never had one."""
    healed_s = [run.healed_s for run in runs if run.healed_s is not None]
    if not healed_s:
        return {}
    soon_s = INTERVALS * INTERVAL_MS / 1000
    quantiles = ", ".join(f"{compute_quantile(healed_s, share):.0f} s" for share in (0.5, 0.99, 1.0))
    return {
        "one tip after the end of all faults, median, 99 %, longest": quantiles,
        f"of these within {INTERVALS} intervals, {soon_s:.0f} s": f"{sum(each <= soon_s for each in healed_s):,}",
    }


def _list_seeds(first: int, kind: str, wanted: int) -> list[int]:
    """Return so many seeds from `first` on whose faults hold a kind."""
    return list(islice((seed for seed in count(first) if kind in Simulation(seed).kinds), wanted))


def _run(seed: int) -> Run:
    """Run a seed and return what travels between processes, which an error of the simulator's does not."""
    run = Simulation(seed).run()
    failure = "" if run.failure is None else str(run.failure)
    return Run(seed, run.counts, run.height, run.deepest_reorg, run.healed_s, failure)


def run_addresses(setup: Setup) -> Result:
    """Poison the address book of a node with ten thousand addresses and restart it again and again."""
    result, starts, eclipses = Result(), 0, 0
    seeds = range(setup.seed, setup.seed + setup.count)
    for seed, outcome in zip(seeds, run_cases(setup, partial(run_siege, SIEGE), seeds), strict=False):
        result.reached += 1
        starts += outcome.starts
        eclipses += outcome.eclipses
        if outcome.eclipses:
            result.fail(seed, f"{outcome.eclipses} of {outcome.starts} starts without an honest peer")
        tell(setup, result, "sieges")
    result.figures = {
        "prefixes and addresses of the attacker": f"{SIEGE.prefixes}, {SIEGE.addresses:,}",
        "starts without an honest outbound peer": f"{eclipses} of {starts:,}",
    }
    return result
