"""What cheats expect where audits are assigned: computed from chances, and simulated with the ledger's own draw.

A coalition holds a miner and a share of the auditors. Draws are public, so its auditors decide when they know who else
was drawn. Caught are it by drawn places, by any honest auditor drawn, and by outsiders whom nobody told to look.
Gains are coins a segment over honest work, which is taken to cost what it earns: the most that a cheat can save.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import comb
from random import Random

from benchmarks.lab.attacks.challenge_gain import DEVNET_SEGMENTS
from chain.genesis import Parameters
from chain.hashing import tagged_hash
from chain.ledger.audit_records import ActiveAuditor
from chain.ledger.audits import draw_auditors
from chain.ledger.records import Contribution
from chain.ledger.subsidy import compute_subsidy_split
from chain.primitives import ATOMS_PER_COIN, BASIS_POINTS, ZERO_HASH, PublicKey

AUDITORS = 64
"""On the list."""
SIGMAS = 4
"""Standard errors that a simulated mean may lie from the computed one."""
OUTSIDER_LOOKS = 0.5
"""Chance that an honest outsider executes a given segment in time: nobody pays it, and it may be away."""
SAVED_BY_FRIEND = 0.5
"""Of what a loser has locked: half goes to who wins the dispute, which may be the coalition by another name."""


@dataclass(frozen=True, slots=True)
class Stakes:
    """What one segment brings and costs, in coins."""

    reward: float
    """All that a segment brings its miner: its part of the pot, and the locked rewards of its tickets."""
    audit_pay: float
    deposit: float
    bond: float
    penalty: float


@dataclass(frozen=True, slots=True)
class Cheat:
    """A way to cheat: its work over honest work, and the chance that drawn places find it. As the suite measures."""

    name: str
    cost_ratio: float
    sampled: float


@dataclass(frozen=True, slots=True)
class World:
    """How many audits there are, how many auditors are the coalition's, and how many outsiders are honest."""

    audit_bp: int
    colluding: int
    outsiders: int

    @property
    def unseen(self) -> float:
        """Chance that no outsider looks."""
        return (1 - OUTSIDER_LOOKS) ** self.outsiders


FORGE = Cheat("forge one cheap op, the rest free", 0.0, 0.0065)
COPY = Cheat("copy another's segment", 0.0, 0.91)
SKIP = Cheat("skip all work", 0.0, 1.0)
WITHHOLD = Cheat("train, commit, and open nothing", 1.0, 1.0)
CHEATS = (FORGE, COPY, SKIP, WITHHOLD)


def compute_stakes(parameters: Parameters) -> Stakes:
    """Return the stakes of a full round of a network that pays all that its pot has."""
    split, blocks = compute_subsidy_split(1, parameters), parameters.round_blocks
    # Segments and the expected audits share the pot by their MACs.
    shares = 1 + parameters.audit_bp / BASIS_POINTS * parameters.audit_pay_bp / BASIS_POINTS
    pay = blocks * split.pot / DEVNET_SEGMENTS / shares
    reward = pay + blocks * split.reward / DEVNET_SEGMENTS
    atoms = (reward, pay * parameters.audit_pay_bp / BASIS_POINTS)
    locked = (parameters.deposit, parameters.auditor_bond, parameters.audit_penalty)
    return Stakes(*(amount / ATOMS_PER_COIN for amount in (*atoms, *locked)))


def iter_counts(audit_bp: int) -> Iterator[tuple[int, float]]:
    """Yield (number of auditors drawn, its chance)."""
    whole, rest = divmod(audit_bp, BASIS_POINTS)
    yield whole, 1 - rest / BASIS_POINTS
    if rest:
        yield whole + 1, rest / BASIS_POINTS


def compute_unheld(world: World) -> Iterator[tuple[int, float]]:
    """Yield (k, chance that k auditors are drawn and all of them are the coalition's)."""
    for count, chance in iter_counts(world.audit_bp):
        yield count, chance * comb(world.colluding, count) / comb(AUDITORS, count)


def compute_caught(world: World, cheat: Cheat) -> float:
    """Return the chance that a cheat is caught by anybody."""
    return 1 - (1 - cheat.sampled) * world.unseen * sum(chance for _, chance in compute_unheld(world))


def compute_gain(stakes: Stakes, world: World, cheat: Cheat) -> float:
    """Return what a coalition expects of one segment over honest work, in coins."""
    caught = compute_caught(world, cheat)
    found_still = 1 - (1 - cheat.sampled) * world.unseen
    audits = sum(count * chance for count, chance in compute_unheld(world))
    part = compute_auditors_part(stakes, found_still)
    lost = stakes.reward + stakes.deposit * SAVED_BY_FRIEND
    return (1 - cheat.cost_ratio) * stakes.reward - caught * lost + audits * part


def compute_auditors_part(stakes: Stakes, found: float) -> float:
    """Return what one of the coalition's auditors adds where no honest one is drawn: it vouches, or keeps silent.

    `found` is the chance that somebody else finds the cheat all the same.
    """
    vouching = stakes.audit_pay * (1 - found) - stakes.bond * SAVED_BY_FRIEND * found
    return max(vouching, -stakes.penalty * (1 - found))


def compute_deposit(stakes: Stakes, world: World, cheat: Cheat) -> float:
    """Return the deposit in coins from which a cheat loses."""
    gain = compute_gain(stakes, world, cheat) + compute_caught(world, cheat) * stakes.deposit * SAVED_BY_FRIEND
    return max(0.0, gain / (compute_caught(world, cheat) * SAVED_BY_FRIEND))


def compute_spread(stakes: Stakes, world: World) -> float:
    """Return the coins that lie between the best and the worst that can happen to a coalition with one segment."""
    count = max(count for count, _ in iter_counts(world.audit_bp))
    lost = stakes.reward + stakes.deposit * SAVED_BY_FRIEND
    return lost + count * (stakes.audit_pay + stakes.bond * SAVED_BY_FRIEND)


def simulate_gain(stakes: Stakes, world: World, cheat: Cheat, trials: int, seed: int) -> tuple[float, float]:
    """Return the mean gain of so many segments in coins, and its standard error.

    Where something rare decides, the error is that of the computed chance: a few trials show none of it.
    """
    rng, gains = Random(f"{seed}:{world}:{cheat.name}"), []
    for drawn in _draw(world.audit_bp, trials, seed):
        honest = any(number >= world.colluding for number in drawn)
        found = rng.random() < cheat.sampled or any(rng.random() < OUTSIDER_LOOKS for _ in range(world.outsiders))
        gains.append(_play(stakes, world, cheat, (len(drawn), honest, found)))
    mean = sum(gains) / trials
    variance = sum((gain - mean) ** 2 for gain in gains) / max(1, trials - 1)
    caught, spread = compute_caught(world, cheat), compute_spread(stakes, world)
    rare = spread * (caught * (1 - caught)) ** 0.5
    return mean, max(variance**0.5, rare) / trials**0.5 + spread / (SIGMAS * trials)


def _play(stakes: Stakes, world: World, cheat: Cheat, happened: tuple[int, bool, bool]) -> float:
    """Return a segment's gain by the number drawn, whether an honest one is among them, and whether others find it."""
    count, is_honest_drawn, is_found = happened
    gain = (1 - cheat.cost_ratio) * stakes.reward
    if is_honest_drawn or is_found:
        gain -= stakes.reward + stakes.deposit * SAVED_BY_FRIEND
    if is_honest_drawn:
        return gain
    found = 1 - (1 - cheat.sampled) * world.unseen
    vouching = stakes.audit_pay * (1 - found) - stakes.bond * SAVED_BY_FRIEND * found
    if vouching > -stakes.penalty * (1 - found):
        return gain + count * (-stakes.bond * SAVED_BY_FRIEND if is_found else stakes.audit_pay)
    return gain - (0 if is_found else count * stakes.penalty)


@cache
def _draw(audit_bp: int, trials: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Return who is drawn for each of so many segments, by number, as the ledger draws."""
    keys = [PublicKey(tagged_hash("auditor", number.to_bytes(4, "little"))) for number in range(AUDITORS)]
    listed, numbers = tuple(ActiveAuditor(key, 0, 1) for key in keys), {key: number for number, key in enumerate(keys)}
    parameters = Parameters(audit_bp=audit_bp)
    segments = (_make_contribution(seed, trial) for trial in range(trials))
    drawn = (draw_auditors(parameters, segment, PublicKey(ZERO_HASH), listed) for segment in segments)
    return tuple(tuple(numbers[key] for key in keys_drawn) for keys_drawn in drawn)


def _make_contribution(seed: int, trial: int) -> Contribution:
    challenge = tagged_hash("challenge", seed.to_bytes(8, "little"), trial.to_bytes(8, "little"))
    return Contribution(1, 1, 0, *(ZERO_HASH,) * 4, challenge, 0, 0, 0, 0)
