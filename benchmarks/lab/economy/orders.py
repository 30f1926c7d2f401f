"""Another order of what a block holds: neighbours that are independent of each other change places.

Whoever sends two has them in the order of their nonces. Kept where they are: registrations, whose names others use,
claims, whose worth is what was paid before, transfers of what may have come just before, and proposals, whose order the
agenda keeps.
"""

from collections.abc import Sequence
from itertools import groupby
from random import Random

from chain.transaction import BuyLicence, CastVote, FundTask, LockStake, PayModel, Transaction, UnlockStake

INDEPENDENT = (BuyLicence, CastVote, FundTask, LockStake, PayModel, UnlockStake)


def reorder(random: Random, transactions: Sequence[Transaction]) -> tuple[Transaction, ...]:
    """Return the transactions in another order that means the same."""
    after: list[Transaction] = []
    for is_free, found in groupby(transactions, lambda each: isinstance(each.body.action, INDEPENDENT)):
        neighbours = list(found)
        after += _shuffle(random, neighbours) if is_free else neighbours
    return tuple(after)


def _shuffle(random: Random, transactions: list[Transaction]) -> list[Transaction]:
    waiting = {
        sender: iter([each for each in transactions if each.body.sender == sender])
        for sender in {each.body.sender for each in transactions}
    }
    return [next(waiting[each.body.sender]) for each in random.sample(transactions, len(transactions))]
