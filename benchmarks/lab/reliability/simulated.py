"""Parts that the deterministic simulator plays: whole networks of real nodes on a virtual clock, one seed each.

Faults are drawn from the seed, so a part takes those seeds whose faults are its own, and each such run is held to every
invariant of the simulator: one tip within thirty seconds of healing is one of them. Address books under siege are the
eclipse's. Nothing is simulated here.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from multiprocessing import get_context

from benchmarks.lab.eclipse import Siege, run_siege
from benchmarks.lab.reliability.part import Result, Setup, tell
from benchmarks.lab.simulator.simulation import Simulation

WORKERS = 2
SIEGE = Siege(prefixes=256)


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a seed; `failure` is empty when every invariant held."""

    seed: int
    counts: dict[str, int]
    height: int
    deepest_reorg: int
    failure: str


def run_partitions(setup: Setup) -> Result:
    """Run seeds that cut networks in two."""
    return _run_simulations(setup, "partition", "part")


def run_clocks(setup: Setup) -> Result:
    """Run seeds in which a node's clock is wrong, by an hour at most."""
    return _run_simulations(setup, "wrong clock", "skew")


def _run_simulations(setup: Setup, kind: str, event: str) -> Result:
    result, events, heights, reorg = Result(), 0, 0, 0
    seeds = _list_seeds(setup.seed, kind, setup.count)
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        for run in pool.map(_run, seeds):
            result.reached += 1
            events += run.counts.get(event, 0)
            heights += run.height
            reorg = max(reorg, run.deepest_reorg)
            if run.failure:
                result.fail(run.seed, run.failure)
            tell(setup, result, f"seeds with a {kind}")
    result.figures |= {f"times that a {kind} began": f"{events:,}", "blocks on the best chains": f"{heights:,}"}
    result.figures |= {"deepest reorganisation": f"{reorg} blocks", "first and last seed": f"{seeds[0]}, {seeds[-1]}"}
    return result


def _list_seeds(first: int, kind: str, wanted: int) -> list[int]:
    """Return so many seeds from `first` on whose faults hold a kind."""
    return list(islice((seed for seed in count(first) if kind in Simulation(seed).kinds), wanted))


def _run(seed: int) -> Run:
    """Run a seed and return what travels between processes, which an error of the simulator's does not."""
    run = Simulation(seed).run()
    failure = "" if run.failure is None else str(run.failure)
    return Run(seed, run.counts, run.height, run.deepest_reorg, failure)


def run_addresses(setup: Setup) -> Result:
    """Poison the address book of a node with ten thousand addresses and restart it again and again."""
    result, starts, eclipses = Result(), 0, 0
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        for seed, outcome in zip(setup.seeds, pool.map(partial(run_siege, SIEGE), setup.seeds), strict=True):
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
