"""How long the parts of one run last: faults, healing, and what comes after. Most runs are short, some are long.

A short run reaches most orders of events for a fraction of the work; only a long one has a node come back, or come for
the first time, so far behind that headers are sampled. It knows no fault.
"""

from dataclasses import dataclass

from benchmarks.lab.simulator.setting import INTERVAL_MS

LONG_EVERY = 20
"""One seed in so many is long."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds of virtual time."""

    faults_s: float
    """When the last fault ends; all is well from here on."""
    fault_s_mean: float
    """Between one fault and the next, and of how long one lasts."""
    first_boot_s_max: float
    """Until when a machine may come for the first time; the others have begun at 0."""
    healing_s: float = 15 * INTERVAL_MS / 1000
    """From the end of all faults to equal work: what peers wait at most before they dial each other again."""
    after_s: float = 6 * INTERVAL_MS / 1000
    """What a run goes on for from there, so that evidence can be included."""


SHORT = Schedule(faults_s=30.0, fault_s_mean=5.0, first_boot_s_max=0.0)
LONG = Schedule(faults_s=220.0, fault_s_mean=15.0, first_boot_s_max=210.0)


def get_schedule(seed: int) -> Schedule:
    """Return how long the run of a seed is."""
    return LONG if seed % LONG_EVERY == 0 else SHORT
