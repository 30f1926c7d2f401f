"""How much a block issues: a subsidy that halves smoothly, in integers, and how it is split.

2**-x between two halvings is the cubic of aserti3-2d (error below 0.02 %). It knows no account.
Source: BCH specification of aserti3-2d, section "Integer implementation".
"""

from dataclasses import dataclass

from chain.genesis import Parameters
from chain.primitives import BASIS_POINTS


@dataclass(frozen=True, slots=True)
class SubsidySplit:
    """Atoms for the ticket's winner, the round's pot and the treasury."""

    reward: int
    pot: int
    treasury: int


def compute_subsidy(height: int, parameters: Parameters) -> int:
    """Return the atoms that the block at `height` (from 1) issues."""
    assert height >= 1
    halvings, since = divmod(height - 1, parameters.subsidy_half_life)
    # 2**-f = 2**(1-f) / 2 keeps the cubic's argument in (0, 1]; 16 fractional bits, as it is defined.
    x = ((parameters.subsidy_half_life - since) << 16) // parameters.subsidy_half_life
    factor = 65_536 + ((195_766_423_245_049 * x + 971_821_376 * x * x + 5_127 * x * x * x + (1 << 47)) >> 48)
    return parameters.subsidy * factor >> (17 + halvings)


def compute_subsidy_split(height: int, parameters: Parameters) -> SubsidySplit:
    """Return who gets how much of the subsidy of the block at `height`; rounding goes to the treasury."""
    subsidy = compute_subsidy(height, parameters)
    half = subsidy * ((BASIS_POINTS - parameters.treasury_bp) // 2) // BASIS_POINTS
    return SubsidySplit(half, half, subsidy - 2 * half)


def compute_issuance_bound(parameters: Parameters) -> int:
    """Return atoms that all subsidies together never exceed: each half-life issues at most half of the one before."""
    return 2 * parameters.subsidy * parameters.subsidy_half_life
