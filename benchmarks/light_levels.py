"""`python -m benchmarks.light_levels`: the figures of docs/light-client.md, computed from its formulas.

Probabilities are floats here; what a client does is integers (`consensus/sampling.py`). A test compares the page.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.synthetic_chain import START_MS, make_context
from consensus.flyclient import Demand
from consensus.header_rules import HeaderContext
from consensus.ramp import compute_ramp, compute_work_after
from consensus.sampling import compute_sample_count
from node.light_chain import Policy

DEFAULT = Demand(seed=make_context().chain_id)
SHARES = (1 / 2, 1 / 4, 1 / 10, 1 / 100)
LENGTHS = (10_000, 100_000, 500_000, 5_000_000)
TICKETS = (1, 8, 24, 100, 590)
POWERS = (1 / 10, 1 / 4, 1 / 3)
STRETCHES = (4, 50, 100, 200, 1_000)


def compute_hit(share: float, ratio: float) -> float:
    """Return the chance that one place hits false work, when `share` of a fork is earned: log_ratio(1 / share)."""
    return min(1.0, math.log(1 / share) / math.log(ratio))


def compute_bits(count: int, hit: float) -> float:
    """Return the level of `count` places in bits: what an all-missing draw is worth."""
    return math.inf if hit >= 1 else -count * math.log2(1 - hit)


def compute_exact_count(bits: int, share: float, ratio: float) -> int:
    """Return the fewest places that reach a level."""
    return math.ceil(bits / -math.log2(1 - compute_hit(share, ratio)))


def compute_stretch_bits(power: float, share: float, blocks: int) -> float:
    """Return the level of the last stretch: Chernoff's bound on a forger that earns `blocks` blocks in time.

    Honest miners find blocks / share meanwhile; the forger, with `power` of their work, expects power / share * blocks.
    """
    excess = share / power
    return blocks * (math.log(excess) - 1 + 1 / excess) / math.log(2) if excess > 1 else 0.0


def compute_block_share(half_life_intervals: int) -> float:
    """Return the largest share of a fork's end that one block can hold behind the least climb that passes.

    The smallest trees before it, 8 + 4 + 2 + 1 + 1 headers, are too short for a window of the bound.
    """
    context = _with_half_life(half_life_intervals)
    height = half_life_intervals * 200
    ramp = compute_ramp(context, range(1, height - 16), START_MS, -1)
    block = compute_work_after(context, height, START_MS)
    return block / (block + ramp)


def _with_half_life(intervals: int) -> HeaderContext:
    context = make_context()
    parameters = context.genesis.parameters
    changed = replace(parameters, half_life_ms=parameters.interval_ms * intervals)
    return replace(context, genesis=replace(context.genesis, parameters=changed))


def format_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def make_tables() -> tuple[str, ...]:
    """Return the tables of docs/light-client.md in their order."""
    return (_tabulate_samples(), _tabulate_tickets(), _tabulate_stretch(), _tabulate_shares())


def _tabulate_samples() -> str:
    bits, stretch = DEFAULT.security_bits, DEFAULT.stretch_blocks
    rows = []
    for length in LENGTHS:
        ratio = length / stretch
        exact = compute_exact_count(bits, 1 / 2, ratio)
        drawn = compute_sample_count(bits, length, stretch)
        rows.append((f"{length:,}", f"{100 * compute_hit(1 / 2, ratio):.1f} %", str(exact), str(drawn)))
    return format_table(("blocks", "p of one place", "m needed", "m drawn"), rows)


def _tabulate_tickets() -> str:
    ratio = 500_000 / Policy().tickets_last
    rows = []
    for count in TICKETS:
        levels = [f"{compute_bits(count, compute_hit(share, ratio)):.1f}" for share in SHARES]
        rows.append((str(count), *levels))
    return format_table(("tickets", *(f"c = 1/{round(1 / share)}" for share in SHARES)), rows)


def _tabulate_stretch() -> str:
    rows = []
    for blocks in STRETCHES:
        levels = [f"{compute_stretch_bits(power, 1 / 2, blocks):.0f}" for power in POWERS]
        rows.append((f"{blocks:,}", *levels))
    return format_table(("L", *(f"q = 1/{round(1 / power)}" for power in POWERS)), rows)


def _tabulate_shares() -> str:
    rows = [(str(intervals), f"{100 * compute_block_share(intervals):.1f} %") for intervals in (8, 288)]
    return format_table(("half-life, intervals", "largest block"), rows)


if __name__ == "__main__":
    print("\n".join(make_tables()))
