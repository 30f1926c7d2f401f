"""One attack as a case: which threats it stands for, what it tries, what came of it, and what has to come of it.

A case runs the real rules and counts. What decides whether it ended as expected is here and nowhere else, so that a
rule that breaks flips the case. It knows no rule, no model and no network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import sqrt

SIGMAS = 4
"""How far a measured rate may lie from the computed one: one run in 16,000 strays further by chance."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try: a case that counts chances takes `trials` of them, a dear one as many as it says."""

    trials: int
    seed: int
    """Decides every random choice of the attacker, so that a run can be repeated."""


QUICK = Effort(trials=256, seed=1)
FULL = Effort(trials=2048, seed=1)


class Ending(Enum):
    """What makes a case end as expected."""

    DETECTED = "every attempt is detected"
    COMPUTED = "detected as often as computed"
    UNPROFITABLE = "costs more than it brings"
    ACCEPTED = "accepted: what the attack lives on elsewhere"
    OPEN = "succeeds: not answered by a rule"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attack came to."""

    tried: int
    detected: int
    computed: float | None
    """Detection probability of one attempt, where chance decides."""
    cost_ratio: float | None
    """The attacker's work over the honest work for the same reward, measured; None where no work is saved."""
    verdict: str
    """One plain sentence."""
    gain: float | None = None
    """Expected gain over honest work, in rewards of one segment; None where none is at stake."""

    @property
    def rate(self) -> float:
        """Share of the attempts that were detected."""
        return self.detected / self.tried if self.tried else 0.0


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to cheat. `rows` are the threats' numbers."""

    rows: tuple[int, ...]
    name: str
    tries: str
    expected: str
    endings: tuple[Ending, ...]
    """All must hold."""
    run: Callable[[Effort], Outcome]


def is_as_expected(attack: Attack, outcome: Outcome) -> bool:
    """Say whether the case ended in every way that it has to."""
    return outcome.tried > 0 and all(_HOLDS[ending](outcome) for ending in attack.endings)


def is_near_computed(outcome: Outcome) -> bool:
    """Say whether the measured rate lies within four standard deviations of the computed one."""
    if outcome.computed is None:
        return False
    deviation = sqrt(outcome.computed * (1 - outcome.computed) / outcome.tried)
    # Half an attempt is what a count can be off by even where the computed rate is 0 or 1 but for a rounding.
    return abs(outcome.rate - outcome.computed) <= SIGMAS * deviation + 0.5 / outcome.tried


def is_unprofitable(outcome: Outcome) -> bool:
    """Say whether the expected gain is negative; without one, whether the attack takes at least the honest work."""
    if outcome.gain is not None:
        return outcome.gain < 0
    return outcome.cost_ratio is not None and outcome.cost_ratio >= 1


_HOLDS: dict[Ending, Callable[[Outcome], bool]] = {
    Ending.DETECTED: lambda outcome: outcome.detected == outcome.tried,
    Ending.COMPUTED: is_near_computed,
    Ending.UNPROFITABLE: is_unprofitable,
    Ending.ACCEPTED: lambda outcome: outcome.detected == 0,
    Ending.OPEN: lambda outcome: outcome.detected < outcome.tried,
}
