"""Threats 45 to 51, 54, 55, 59 and 63: the lottery's matmul for less than its price, or a ticket for no work.

Gathers the cases: cached products, chosen operands, folds, and the rules that a ticket stands under.
"""

from benchmarks.lab.attacks import lottery_cached, lottery_folds, lottery_kinds, lottery_operands, lottery_rules
from benchmarks.lab.attacks.case import Attack

ATTACKS: tuple[Attack, ...] = (
    lottery_cached.ATTACKS
    + lottery_operands.ATTACKS
    + lottery_kinds.ATTACKS
    + lottery_folds.ATTACKS
    + lottery_rules.ATTACKS
)
