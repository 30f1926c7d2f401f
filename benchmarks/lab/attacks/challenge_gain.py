"""What a cheat may expect: rewards, deposits and chances put together, in rewards of one segment.

Over honest work, a cheat saves (1 - cost ratio) of the work's cost and loses reward and deposit whenever it is found:

    gain = (1 - cost ratio) * cost - chance * (reward + deposit)

Work is taken to cost as much as it earns, which is the most that a cheat can save: who mines at a loss stops. It knows
no attack; where the numbers of a network come from is `chain.genesis` and `chain.ledger.subsidy`.
"""

from dataclasses import dataclass

from chain.genesis import Parameters
from chain.ledger.subsidy import compute_subsidy_split

DEVNET_SEGMENTS = 8
"""Segments of a full round of the development network: four miners, S = 2 each."""

SHARE = 1 / 3
"""Of the work, held by a cheat that wins blocks: where selfish mining begins to pay anyway."""
AUDIT_ONE_IN = 8
"""A chance of audits to compute with; what coalitions gain for others, `benchmarks.lab.audit_gains` computes."""


@dataclass(frozen=True, slots=True)
class Stakes:
    """What one segment's miner may win and lose, in rewards of one segment (so the reward is 1)."""

    deposit: float
    block_reward: float
    """Of one block, which a winner forfeits that withholds it."""
    audit: float
    """Chance that a proven segment is executed again."""


def compute_devnet_stakes() -> Stakes:
    """Return the stakes of a full round of the development network: every segment is executed again."""
    parameters = Parameters()
    split = compute_subsidy_split(1, parameters)
    # A segment is paid from the pot, and by the locked rewards of the blocks that its tickets won.
    blocks = parameters.round_blocks
    reward = blocks * (split.pot + split.reward) / DEVNET_SEGMENTS
    return Stakes(parameters.deposit / reward, split.reward / reward, 1.0)


def make_audited_stakes(audit: float, deposits: float = 1.0) -> Stakes:
    """Return the stakes where audits are drawn with chance `audit`, and the deposit is `deposits` rewards over it."""
    return Stakes(deposits / audit, compute_devnet_stakes().block_reward, audit)


def compute_chance(sampled: float, audit: float) -> float:
    """Return the chance that drawn places or an audit find a cheat."""
    return 1 - (1 - sampled) * (1 - audit)


def compute_gain(stakes: Stakes, sampled: float, cost_ratio: float | None) -> float:
    """Return what a cheat may expect over honest work; without a cost ratio it saves nothing."""
    chance = compute_chance(sampled, stakes.audit)
    return (0.0 if cost_ratio is None else 1 - cost_ratio) - chance * (1 + stakes.deposit)


def compute_biased_chance(chance: float, share: float) -> float:
    """Return the chance that is left when a miner with this share of the work drops its blocks that would find it.

    Others' blocks decide as they fall; its own are drawn again until one suits: the rest of a geometric series.
    """
    return (1 - share) * chance / (1 - share * chance)


def compute_dropped_blocks(chance: float, share: float) -> float:
    """Return how many of its own blocks that miner is expected to drop for one challenge."""
    return share * chance / (1 - share * chance)
