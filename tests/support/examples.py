"""How many examples a property is tried on, where Hypothesis' hundred would be too many for every run."""

from hypothesis import settings

USUAL = 100


def count_examples(count: int) -> int:
    """Return `count`, or as many times more as the profile asks for more than the usual hundred."""
    return count * settings().max_examples // USUAL
