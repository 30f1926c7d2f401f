"""Thousands of altered locks, notices, proposals and votes, signed by their own sender: none is applied.

Another amount or choice that its sender may make is another valid action; values are drawn out of what is allowed. What
each refusal is called is the rule that was meant.
"""

import random

from chain.primitives import Hash, PublicKey
from chain.transaction import CastVote, ChangeParameter, LockStake, ProposeChange, SpendTreasury, UnlockStake
from tests.support.governance import COIN, RAISE, lock, propose
from tests.support.ledger import BOB, CAROL, FUNDS, LedgerChain
from tests.test_contribution_mutations import flip
from tests.test_economy_mutations import Values, refuse_all


def make_chain() -> tuple[LedgerChain, Hash, Hash]:
    """Return a chain on which Bob has stake, with the names of an open proposal and one from before his stake."""
    chain = LedgerChain()
    early = propose(chain, CAROL)
    lock(chain, BOB, 100)
    return chain, propose(chain, CAROL), early


def test_no_altered_lock_or_notice_is_applied() -> None:
    chain, _, _ = make_chain()
    rng = random.Random(31)
    locks: Values = {"amount": lambda: rng.choice([0, rng.randrange(FUNDS, 2**64)])}
    assert refuse_all(chain, LockStake(COIN), locks) == {"amount", "balance"}
    notices: Values = {"amount": lambda: rng.choice([0, rng.randrange(100 * COIN + 1, 2**64)])}
    assert refuse_all(chain, UnlockStake(100 * COIN), notices) == {"amount", "stake-amount"}
    chain.mine(chain.sign(BOB, UnlockStake(COIN)))
    chain.mine_to(chain.height + chain.context.parameters.release_blocks - 1)
    others: Values = {"amount": lambda: rng.choice([0, rng.randrange(1, COIN), rng.randrange(COIN + 1, 2**64)])}
    assert refuse_all(chain, UnlockStake(COIN), others) == {"amount", "stake-leaving"}


def test_no_altered_proposal_is_applied() -> None:
    chain, _, _ = make_chain()
    rng = random.Random(32)
    names = ["", "Deposit", "deposit ", "bonds", "subsidy", "voting_blocks", "interval_ms"]
    points = [bytes(32), b"\xff" * 32, b"\x01" + bytes(31)]
    far = [COIN - 1, 2 * COIN, 5 * COIN, 8 * COIN, 10_000 * COIN + 1, 2**64 - 1]
    values: Values = {
        "title": lambda: rng.choice(["", "\x00", "a\nb", "\x1b[31m", "\x9f"]),
        "change": lambda: rng.choice(
            [
                ChangeParameter(rng.choice(names), 6 * COIN),
                ChangeParameter("deposit", rng.choice(far)),
                SpendTreasury(PublicKey(rng.choice(points)), 1),
                SpendTreasury(BOB.public_key, rng.choice([0, COIN, 2**64 - 1])),
            ]
        ),
    }
    found = refuse_all(chain, ProposeChange("a change", RAISE), values)
    rules = {"proposal-title", "change-parameter", "change-bounds", "change-step", "recipient", "amount"}
    assert found == rules | {"spend-treasury"}


def test_no_altered_vote_is_applied() -> None:
    chain, name, early = make_chain()
    rng = random.Random(33)
    values: Values = {
        "proposal": lambda: rng.choice([early, Hash(flip(rng, name)), chain.context.task_id]),
        "choice_code": lambda: rng.randrange(3, 256),
    }
    assert refuse_all(chain, CastVote(name, 1), values) == {"vote-stake", "proposal-unknown", "vote-choice"}
