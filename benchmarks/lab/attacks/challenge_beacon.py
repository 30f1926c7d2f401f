"""Threats 18 and 19: who draws the challenge. A block producer that drops blocks it does not like, and a prover that
could draw for itself.

Beacons, challenges and places are the real ones; who wins a block is drawn by shares of the work. The chances that are
left are held against geometric series.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import mean
from time import process_time

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.challenge_gain import (
    AUDIT_ONE_IN,
    SHARE,
    Stakes,
    compute_biased_chance,
    compute_devnet_stakes,
    compute_dropped_blocks,
    compute_gain,
)
from benchmarks.lab.attacks.trajectory_bench import Segment, get_bench, make_seed, make_segment
from benchmarks.lab.attacks.trajectory_cheats import back_fit, repeat_easy_batch
from benchmarks.lab.attacks.trajectory_odds import compute_odds, count_detected
from chain.hashing import tagged_hash
from chain.header import compute_beacon
from chain.ledger.contributions import compute_challenge
from chain.ledger.records import Contribution
from chain.ledger.transition import ContributionStatus
from chain.primitives import ZERO_HASH, Hash
from ml.prf import derive_key, draw_below
from ml.tensor_tree import DIGEST_BYTES, compute_tensor_root
from ml.trace import compute_trace_root

TRIALS_PER_GRIND = 64
GRIND_MAX = 10_000

COMMITTED = Contribution(
    status_code=int(ContributionStatus.COMMITTED),
    commit_height=1,
    anchor_height=0,
    seed=ZERO_HASH,
    trace_root=ZERO_HASH,
    delta_root=ZERO_HASH,
    sidecar_hash=ZERO_HASH,
    challenge=ZERO_HASH,
    deposit=0,
    macs=0,
    reward=0,
    disputes=0,
)

IsBad = Callable[[Hash], bool]
"""Says whether a beacon would find the cheat."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one challenge."""

    is_found: bool
    dropped: int


def meet_beacon(rng: random.Random, parent: Hash, is_bad: IsBad, share: float = SHARE) -> Fate:
    """Return what becomes of a cheat that drops each block of its own whose beacon would find it."""
    dropped = 0
    while True:
        is_own = rng.random() < share
        is_found = is_bad(compute_beacon(parent, Hash(rng.randbytes(32))))
        if not (is_own and is_found):
            return Fate(is_found, dropped)
        dropped += 1


def bias_places(effort: Effort) -> Outcome:
    """With a third of the work, drop every block of one's own whose beacon draws a forged place."""
    segment = make_segment(get_bench().make_runner(make_seed(effort.seed)), repeat_easy_batch)
    trace_root, chance = compute_trace_root(segment.trace), compute_odds(segment).of_challenge()

    def is_bad(beacon: Hash) -> bool:
        return Grind(trace_root, 0).is_found(segment, beacon)

    fates = list(_meet_beacons(effort, is_bad))
    computed, stakes = compute_biased_chance(chance, SHARE), compute_devnet_stakes()
    dropped = mean(fate.dropped for fate in fates)
    gain = compute_gain(stakes, computed, None) - dropped * stakes.block_reward
    verdict = (
        f"{chance:.1%} becomes {computed:.1%}, at {dropped:.3f} dropped blocks a challenge"
        f" ({compute_dropped_blocks(chance, SHARE):.3f} computed); re-execution asks no beacon"
    )
    return Outcome(len(fates), sum(fate.is_found for fate in fates), computed, None, verdict, gain)


def bias_audits(effort: Effort) -> Outcome:
    """Were audits drawn by the beacon for one segment in eight: drop every block of one's own that would draw one."""

    def is_bad(beacon: Hash) -> bool:
        return draw_below(derive_key("place", beacon), 0, AUDIT_ONE_IN) == 0

    fates = list(_meet_beacons(effort, is_bad))
    audit = 1 / AUDIT_ONE_IN
    biased = compute_biased_chance(audit, SHARE)
    # All of the work is saved, and blocks are dropped for nothing else: the most that a cheat can gain.
    loss = compute_dropped_blocks(audit, SHARE) * compute_devnet_stakes().block_reward
    plain, mended = (
        compute_gain(Stakes(deposits / audit, 0.0, biased), 0.0, 0.0) - loss
        for deposits in (1.0, _compute_margin(audit))
    )
    verdict = (
        f"one in {AUDIT_ONE_IN} becomes one in {1 / biased:.1f}: a deposit of reward / p would leave a gain of"
        f" {plain:+.2f}, one {_compute_margin(audit):.2f} times as large leaves none"
    )
    return Outcome(len(fates), sum(fate.is_found for fate in fates), biased, None, verdict, mended)


def _compute_margin(audit: float) -> float:
    """Return by how much a deposit has to exceed reward / p, where a third of the work may drop blocks."""
    return audit / compute_biased_chance(audit, SHARE)


def _meet_beacons(effort: Effort, is_bad: IsBad) -> Iterator[Fate]:
    rng = random.Random(effort.seed)
    for number in range(effort.trials):
        yield meet_beacon(rng, tagged_hash("beacon", number.to_bytes(8, "little")), is_bad)


def draw_for_oneself(effort: Effort) -> Outcome:
    """Were places drawn by the trace root alone: change a byte of the forgery until it draws places that hold."""
    segment = make_segment(get_bench().make_runner(make_seed(effort.seed)), back_fit)
    honest = make_segment(segment.runner)
    count = max(1, effort.trials // TRIALS_PER_GRIND)
    start_s = process_time()
    grinds = [grind(segment, number, ZERO_HASH) for number in range(count)]
    seconds = (process_time() - start_s) / count
    needed = 1 / (1 - compute_odds(segment).of_challenge())
    verdict = f"passes after {mean(each.tries for each in grinds):.1f} forgeries ({needed:.1f} computed)"
    return Outcome(count, 0, None, (segment.seconds + seconds) / honest.seconds, verdict)


def draw_later(effort: Effort) -> Outcome:
    """Change the same byte until a guessed beacon draws places that hold, commit, and meet another beacon."""
    segment = make_segment(get_bench().make_runner(make_seed(effort.seed)), back_fit)
    count = max(1, effort.trials // TRIALS_PER_GRIND // 8)
    grinds = [grind(segment, number, tagged_hash("beacon", b"guess")) for number in range(count)]
    detected = 0
    for number in range(effort.trials):
        beacon = tagged_hash("beacon", b"later", number.to_bytes(8, "little"))
        detected += grinds[number % count].is_found(segment, beacon)
    computed = compute_odds(segment).of_challenge()
    return Outcome(effort.trials, detected, computed, None, "a trace that suits a guess is found like any other")


@dataclass(frozen=True, slots=True)
class Grind:
    """A trace root that was looked for, and after how many others."""

    trace_root: Hash
    tries: int

    def is_found(self, segment: Segment, beacon: Hash) -> bool:
        """Say whether the places that this beacon draws show the forgery."""
        contribution = replace(COMMITTED, seed=Hash(segment.runner.segment_seed), trace_root=self.trace_root)
        challenge = compute_challenge(beacon, contribution)
        return count_detected(segment, iter([challenge]))[1] == 1


def grind(segment: Segment, number: int, beacon: Hash) -> Grind:
    """Return the first variant of a forged segment that passes under `beacon`; other numbers give other variants.

    What varies is a moment after the last update of a layer: forged anyway, and read by nothing.
    """
    program, last = segment.runner.program, segment.runner.program.steps - 1
    outputs = program.get_step_outputs(last)
    moment = program.state_outputs[2 * len(program.parameters)]
    place = len(segment.sidecar.output_roots) - (len(outputs) - outputs.index(moment)) * DIGEST_BYTES
    values, trace = segment.steps[last][moment].copy(), segment.trace
    for tries in range(1, GRIND_MAX):
        values[0, 0] = number * GRIND_MAX + tries
        roots = trace.output_roots
        roots = roots[:place] + compute_tensor_root(values) + roots[place + DIGEST_BYTES :]
        found = Grind(compute_trace_root(replace(trace, output_roots=roots)), tries)
        if not found.is_found(segment, beacon):
            return found
    raise AssertionError("no variant passes")


def _make_case(row: int, name: str, run: Callable[[Effort], Outcome], expected: str, *endings: Ending) -> Attack:
    return Attack((row,), name, run.__doc__ or name, expected, endings, run)


BIASED = (Ending.COMPUTED, Ending.UNPROFITABLE)

ATTACKS = (
    _make_case(18, "beacon bias against drawn places", bias_places, "as rare as computed, and at a loss", *BIASED),
    _make_case(18, "beacon bias against audits to come", bias_audits, "a deposit that counts with it", *BIASED),
    _make_case(
        19, "places drawn by one's own trace", draw_for_oneself, "accepted without later entropy", Ending.ACCEPTED
    ),
    _make_case(19, "trace ground for a guessed beacon", draw_later, "found as if not ground", Ending.COMPUTED),
)
