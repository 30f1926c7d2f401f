"""Threats 1 to 10 and 52: spoilt trajectories, each before three judges.

A verifier with a tolerance, as published proof-of-learning has it, accepts them. Drawn places find them as often as
computed, which may be seldom. Re-execution finds all of them.
"""

from benchmarks.lab.attacks.case import Attack
from benchmarks.lab.attacks.trajectory_cheats import TRAJECTORY, zero_all_layers, zero_one_layer
from benchmarks.lab.attacks.trajectory_judges import make_audited_case, make_judged_pair
from benchmarks.lab.attacks.trajectory_tolerance import TOLERATED

FREE_OPS = (
    ((52,), "one forged update, the rest free", zero_one_layer),
    ((52,), "three forged updates, all free", zero_all_layers),
)

ATTACKS: tuple[Attack, ...] = (
    TOLERATED
    + tuple(
        attack
        for rows, name, cheat in (*(((row,), name, cheat) for row, name, cheat in TRAJECTORY), *FREE_OPS)
        for attack in make_judged_pair(rows, name, cheat)
    )
    + tuple(make_audited_case(rows, name, cheat) for rows, name, cheat in FREE_OPS)
)
