"""Two judges of a forged segment: the places that a challenge draws, and re-execution at settlement.

What they find is counted with the real rules and held against what is computed; what the forgery costs is measured
beside honest work. They know no particular forgery.
"""

from functools import cache, partial
from statistics import median

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.challenge_gain import Stakes, compute_devnet_stakes, compute_gain
from benchmarks.lab.attacks.trajectory_bench import Cheat, Segment, get_bench, make_seed, make_segment
from benchmarks.lab.attacks.trajectory_cheats import SAVING_NOTHING
from benchmarks.lab.attacks.trajectory_odds import (
    compute_odds,
    count_detected,
    draw_challenges,
    is_answer_accepted,
    is_execution_agreed,
)

TRIALS_PER_EXECUTION = 512
"""Re-execution leaves nothing to chance, so a few segments are enough."""
TRIALS_PER_TIMING = 800


def make_judged_pair(rows: tuple[int, ...], name: str, cheat: Cheat) -> tuple[Attack, Attack]:
    """Return the cases of one forgery before drawn places and before re-execution."""
    tries = cheat.__doc__ or name
    by_places = Attack(
        rows,
        f"{name}: drawn places",
        tries,
        "found by 8 drawn places as often as where the forgery lies says",
        (Ending.COMPUTED,),
        partial(judge_by_places, cheat),
    )
    by_execution = Attack(
        rows,
        f"{name}: re-execution",
        tries,
        "always found, at a loss",
        (Ending.DETECTED, Ending.UNPROFITABLE),
        partial(judge_by_execution, cheat),
    )
    return by_places, by_execution


def judge_by_places(cheat: Cheat, effort: Effort) -> Outcome:
    """Return how often challenges find a segment of this cheat, beside the computed chance."""
    segment = make_segment(get_bench().make_runner(make_seed(effort.seed)), cheat)
    computed = compute_odds(segment).of_challenge()
    tried, detected = count_detected(segment, draw_challenges(effort.seed, effort.trials))
    _compare_with_openings(segment, effort)
    cost_ratio = measure_cost_ratio(cheat, _count_timings(effort))
    devnet = compute_devnet_stakes()
    unaudited = Stakes(devnet.deposit, devnet.block_reward, 0.0)
    gain = compute_gain(unaudited, computed, 1.0 if cost_ratio is None else cost_ratio)
    macs = segment.macs / segment.runner.program.segment_macs
    worth = "would pay if it were all" if gain > 0 else "would not pay even so"
    done = "all of the work done" if cost_ratio is None else f"{macs:.1%} of the multiplications done"
    verdict = f"{done}; with sampling alone it {worth}"
    return Outcome(tried, detected, computed, cost_ratio, verdict, gain)


def judge_by_execution(cheat: Cheat, effort: Effort) -> Outcome:
    """Return how often re-execution finds segments of this cheat."""
    count = max(2, effort.trials // TRIALS_PER_EXECUTION)
    bench = get_bench()
    segments = (make_segment(bench.make_runner(make_seed(effort.seed + i)), cheat) for i in range(count))
    detected = sum(not is_execution_agreed(segment) for segment in segments)
    cost_ratio = measure_cost_ratio(cheat, _count_timings(effort))
    gain = compute_gain(compute_devnet_stakes(), 0.0, 1.0 if cost_ratio is None else cost_ratio)
    return Outcome(count, detected, 1.0, cost_ratio, "slashed at settlement, deposit burned, nothing paid", gain)


@cache
def measure_cost_ratio(cheat: Cheat, timings: int) -> float | None:
    """Return the time of this cheat's segment over an honest one's, medians of runs side by side; None: no saving."""
    if cheat in SAVING_NOTHING:
        return None
    runner = get_bench().make_runner(make_seed(0))
    pairs = [(make_segment(runner, cheat).seconds, make_segment(runner).seconds) for _ in range(timings)]
    return median(cheating for cheating, _ in pairs) / median(honest for _, honest in pairs)


def _count_timings(effort: Effort) -> int:
    return max(1, effort.trials // TRIALS_PER_TIMING)


def _compare_with_openings(segment: Segment, effort: Effort) -> None:
    """Hold the count, which reads tensors, against real openings before the real verifier on some challenges."""
    for challenge in draw_challenges(effort.seed, max(2, effort.trials // 128)):
        _, found = count_detected(segment, iter([challenge]))
        assert is_answer_accepted(segment, challenge) == (found == 0), "openings and tensors are judged alike"
