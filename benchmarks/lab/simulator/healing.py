"""From the end of all faults to one tip: how long that may take, and what may stand in its way.

Two branches of equal work are both right: each node keeps the one it saw first until somebody finds the block that
decides, and when that is nobody decides. Unequal heads are a fault. It knows no node.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.lab.simulator.schedule import Schedule
from chain.primitives import Hash

SPREAD_S = 9.0
"""In which a block is everywhere while nothing fails, though a rogue keeps each of its ways waiting once: a compact
block for two seconds, the whole one for as long, and again where a second rogue has offered it too."""

TIE_FACTOR = 2
"""How many times the time to heal equal branches may stand for: two miners find nothing for so long in one of three
million ties at most."""


@dataclass(slots=True)
class Healing:
    """One run's way to one tip."""

    schedule: Schedule
    one_tip_s: float | None = None
    """When all nodes were first seen at one tip after the end of all faults."""
    _tied_s: float = 0.0
    """When branches of equal work were last seen."""

    def look(self, now_s: float, tips: Mapping[Hash, int]) -> bool:
        """Take the heads that count with their work; say whether they have just become one."""
        if len(tips) > 1 and len(set(tips.values())) == 1:
            self._tied_s = now_s
        if self.one_tip_s is not None or now_s <= self.schedule.faults_s or len(tips) != 1:
            return False
        self.one_tip_s = now_s
        return True

    def is_overdue(self, now_s: float) -> bool:
        """Say whether there ought to have been one tip by now."""
        since_s, healing_s = now_s - self.schedule.faults_s, self.schedule.healing_s
        if self.one_tip_s is not None or since_s <= healing_s:
            return False
        return now_s > self._tied_s + SPREAD_S or since_s > TIE_FACTOR * healing_s
