"""Two judges of a forged segment: the places that a challenge draws, and re-execution at settlement.

What they find is counted with the real rules and held against what is computed; what the forgery costs is measured
beside honest work. They know no particular forgery.
"""

from dataclasses import replace
from functools import cache, lru_cache, partial
from statistics import median

from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.challenge_gain import (
    AUDIT_ONE_IN,
    compute_chance,
    compute_devnet_stakes,
    compute_gain,
    make_audited_stakes,
)
from benchmarks.lab.attacks.trajectory_bench import Cheat, Segment, get_bench, make_seed, make_segment
from benchmarks.lab.attacks.trajectory_cheats import SAVING_NOTHING
from benchmarks.lab.attacks.trajectory_odds import (
    compute_odds,
    count_detected,
    draw_challenges,
    is_answer_accepted,
    is_execution_agreed,
)
from ml.prf import derive_key, draw_below

TRIALS_PER_EXECUTION = 512
"""Re-execution leaves nothing to chance, so a few segments are enough."""
TRIALS_PER_TIMING = 400
RARE, RARE_TRIALS = 0.01, 8
"""Below this chance, a full effort takes so many times the trials: enough to tell the computed rate from none."""


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


def make_audited_case(rows: tuple[int, ...], name: str, cheat: Cheat) -> Attack:
    """Return the case of one forgery before drawn places and audits of one segment in eight, as they are to come."""
    return Attack(
        rows,
        f"{name}: audits to come",
        cheat.__doc__ or name,
        f"found by places or by an audit of one in {AUDIT_ONE_IN}; at a loss with a deposit of reward / p",
        (Ending.COMPUTED, Ending.UNPROFITABLE),
        partial(judge_by_audits, cheat),
    )


def judge_by_places(cheat: Cheat, effort: Effort) -> Outcome:
    """Return how often challenges find a segment of this cheat, beside the computed chance."""
    segment = _forge(cheat, effort.seed)
    computed = compute_odds(segment).of_challenge()
    is_quick = effort.trials < TRIALS_PER_TIMING
    trials = effort.trials * (RARE_TRIALS if computed < RARE and not is_quick else 1)
    tried, detected = count_detected(segment, draw_challenges(effort.seed, trials))
    _compare_with_openings(segment, effort)
    cost_ratio = measure_cost_ratio(cheat, effort)
    gain = compute_gain(replace(compute_devnet_stakes(), audit=0.0), computed, cost_ratio)
    worth = "would pay if it were all" if gain > 0 else "would not pay even so"
    done = f"{segment.macs / segment.runner.program.segment_macs:.1%} of the multiplications done"
    verdict = f"{'all of the work done' if cost_ratio is None else done}; with sampling alone it {worth}"
    return Outcome(tried, detected, computed, cost_ratio, verdict, gain)


def judge_by_execution(cheat: Cheat, effort: Effort) -> Outcome:
    """Return how often re-execution finds segments of this cheat."""
    count = max(1, effort.trials // TRIALS_PER_EXECUTION)
    detected = sum(not is_execution_agreed(_forge(cheat, effort.seed + i)) for i in range(count))
    cost_ratio = measure_cost_ratio(cheat, effort)
    gain = compute_gain(compute_devnet_stakes(), 0.0, cost_ratio)
    return Outcome(count, detected, None, cost_ratio, "disputed by an auditor, deposit lost, nothing paid", gain)


def judge_by_audits(cheat: Cheat, effort: Effort) -> Outcome:
    """Return how often places or a drawn audit find a segment of this cheat."""
    segment, audit = _forge(cheat, effort.seed), 1 / AUDIT_ONE_IN
    stakes, sampled = make_audited_stakes(audit), compute_odds(segment).of_challenge()
    detected = 0
    for challenge in draw_challenges(effort.seed, effort.trials):
        is_audited = draw_below(derive_key("place", challenge), 0, AUDIT_ONE_IN) == 0
        detected += is_audited or count_detected(segment, iter([challenge]))[1] == 1
    cost_ratio = measure_cost_ratio(cheat, effort)
    gain = compute_gain(stakes, sampled, cost_ratio)
    free = compute_gain(stakes, sampled, 0.0)
    verdict = f"a deposit of {stakes.deposit:.0f} rewards; where the rest costs nothing at all, {free:+.2f}"
    return Outcome(effort.trials, detected, compute_chance(sampled, audit), cost_ratio, verdict, gain)


@cache
def measure_cost_ratio(cheat: Cheat, effort: Effort) -> float | None:
    """Return the processor time of a cheat's segment over an honest one's, medians of runs by turns.

    None for cheats that save nothing.
    """
    if cheat in SAVING_NOTHING:
        return None
    timings = effort.trials // TRIALS_PER_TIMING
    runner = get_bench().make_runner(make_seed(0))
    pairs = [(make_segment(runner, cheat).seconds, make_segment(runner).seconds) for _ in range(timings)]
    pairs = pairs or [(_forge(cheat, effort.seed).seconds, _time_honest_work())]
    return median(cheating for cheating, _ in pairs) / median(honest for _, honest in pairs)


@cache
def _time_honest_work() -> float:
    runner = get_bench().make_runner(make_seed(0))
    # The first segment of a process loads the kernels.
    return min(make_segment(runner).seconds for _ in range(2))


@lru_cache(maxsize=1)
def _forge(cheat: Cheat, seed: int) -> Segment:
    """Return the cheat's segment; one is kept, for the judges that follow one another."""
    return make_segment(get_bench().make_runner(make_seed(seed)), cheat)


def _compare_with_openings(segment: Segment, effort: Effort) -> None:
    """Hold the count, which reads tensors, against real openings before the real verifier on some challenges."""
    for challenge in draw_challenges(effort.seed, max(2, effort.trials // 128)):
        _, found = count_detected(segment, iter([challenge]))
        assert is_answer_accepted(segment, challenge) == (found == 0), "openings and tensors are judged alike"
