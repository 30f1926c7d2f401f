"""Governance in a random history: stake is locked and leaves, changes are proposed and voted on.

Each is drawn and judged by the books, as all actions are.
"""

from typing import TYPE_CHECKING

from benchmarks.lab.economy.ballots import COIN, LIMITS, LIVE, QUARTER, SHARE_BP, Ballots
from benchmarks.lab.economy.world import PARAMETERS
from chain.ledger.governance_records import Choice
from chain.ledger.proposals import compute_proposal_id
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import (
    CastVote,
    Change,
    ChangeParameter,
    LockStake,
    ProposeChange,
    SpendTreasury,
    SubsidiseTask,
    UnlockStake,
)

if TYPE_CHECKING:
    from benchmarks.lab.economy.history import History

RESERVE = 60 * COIN
PERCENT = (50, 75, 80, 99, 100, 101, 120, 125, 150, 160)
"""Of the value in force, what is proposed."""
DRAWN_MAX = {"deposit": 12 * COIN, "sidecars_per_block": 12}
"""Values above which none is drawn within bounds: segments must stay affordable."""
SHARES_BP = (0, 1, 333, 1_000, 1_999, 2_000, 2_000)
CHOICES = (Choice.YES, Choice.YES, Choice.YES, Choice.YES, Choice.NO, Choice.ABSTAIN)
NO_POINT = PublicKey(b"\xff" * 32)


def make_ballots() -> Ballots:
    """Return the books at genesis."""
    values = {name: getattr(PARAMETERS, name) for name in LIMITS}
    return Ballots(values, PARAMETERS.voting_blocks, PARAMETERS.enactment_blocks, PARAMETERS.round_blocks)


def lock(run: "History") -> None:
    """Lock some of what an account can spare, nothing, or more than it has."""
    key, kind = run.random.choice(run.keys), run.random.random()
    account, spendable = key.public_key, run.balance_of(key.public_key) - RESERVE
    if kind < 0.05:
        run.refuse(key, LockStake(0), "amount")
    elif run.has_claimed(account):
        return
    elif kind < 0.1:
        run.refuse(key, LockStake(run.balance_of(account) + 1), "balance")
    elif spendable > 0:
        amount = run.random.choice((1, spendable // 8 + 1, spendable // 3 + 1, spendable // 2 + 1))
        run.oracle.credit(account, -amount)
        run.books.ballots.lock(account, amount, run.world.tip.height + 1)
        run.enter(key, LockStake(amount))


def unlock(run: "History") -> None:
    """Give notice, take back what was leaving, or try to too early or with another amount."""
    key, height, ballots = run.random.choice(run.keys), run.world.tip.height + 1, run.books.ballots
    stake = ballots.get_stake(key.public_key)
    whole = stake.leaving or stake.amount
    amount = max(1, run.random.choice((whole // 4, whole // 2, whole, whole, whole + 1)))
    if problem := ballots.find_unlock_problem(key.public_key, amount, height):
        run.refuse(key, UnlockStake(amount), problem)
        return
    back = ballots.unlock(key.public_key, amount, height)
    run.oracle.credit(key.public_key, back)
    run.counts["stakes given back"] += back > 0
    run.enter(key, UnlockStake(amount))


def propose(run: "History") -> None:
    """Propose a change, or one that no vote may bring about."""
    key = run.random.choice(run.keys)
    if run.has_claimed(key.public_key) or run.balance_of(key.public_key) < RESERVE:
        return
    if run.random.random() < 0.15:
        run.refuse(key, *_draw_impossible(run))
        return
    change = _draw_change(run)
    terms, ballots = ProposeChange("a change", change), run.books.ballots
    if len(ballots.list_live()) == LIVE:
        run.refuse(key, terms, "agenda-full")
    elif problem := ballots.find_problem(change, run.books.whole_treasury, run.books.shares_bp):
        run.refuse(key, terms, problem)
    else:
        name = compute_proposal_id(run.world.context.chain_id, key.public_key, run.next_nonce(key.public_key), terms)
        ballots.propose(name, key.public_key, change, run.world.tip.height + 1)
        run.oracle.credit(key.public_key, -PARAMETERS.proposal_deposit)
        run.enter(key, terms)


def vote(run: "History") -> None:
    """Vote on what is open, again or otherwise than before; now and then on what is closed or never was."""
    ballots = run.books.ballots
    staked = [key for key in run.keys if ballots.get_stake(key.public_key).amount]
    key = run.random.choice(staked if staked and run.random.random() < 0.8 else run.keys)
    names = [name for name, ballot in ballots.proposals.items() if ballot.status == "OPEN"]
    choice, kind = run.random.choice(CHOICES), run.random.random()
    if kind < 0.03:
        run.refuse(key, CastVote(Hash(run.random.randbytes(32)), int(choice)), "proposal-unknown")
    elif kind < 0.06:
        run.refuse(key, CastVote(Hash(bytes(32)), len(Choice)), "vote-choice")
    elif kind < 0.1 and ballots.proposals:
        _cast(run, key, run.random.choice(list(ballots.proposals)), choice)
    elif names:
        _cast(run, key, run.random.choice(names), choice)


def _cast(run: "History", key: SigningKey, name: Hash, choice: Choice) -> None:
    action = CastVote(name, int(choice))
    problem = run.books.ballots.vote(key.public_key, name, choice.name)
    if problem is None:
        run.enter(key, action)
    else:
        run.refuse(key, action, problem)


def _draw_change(run: "History") -> Change:
    """Draw a change that no rule but those of the state can refuse."""
    books, kind = run.books, run.random.random()
    if kind < 0.2:
        quarter = books.whole_treasury // QUARTER
        amount = run.random.choice((1, max(1, quarter // 3), max(1, quarter), quarter + 1))
        return SpendTreasury(run.random.choice(run.keys).public_key, amount)
    if kind < 0.7:
        names = sorted(books.pots if books.pots and run.random.random() < 0.8 else run.oracle.models)
        return SubsidiseTask(run.random.choice(names), run.random.choice(SHARES_BP))
    parameter = run.random.choice(list(LIMITS))
    lowest, highest, _ = LIMITS[parameter]
    value = books.ballots.values[parameter] * run.random.choice(PERCENT) // 100
    return ChangeParameter(parameter, min(max(value, lowest), DRAWN_MAX.get(parameter, highest)))


def _draw_impossible(run: "History") -> tuple[ProposeChange, str]:
    """Draw what is refused without a look at the state, and the rule."""
    name, recipient = run.random.choice(list(LIMITS)), run.keys[0].public_key
    lowest, highest, _ = LIMITS[name]
    share = SubsidiseTask(run.world.context.task_id, SHARE_BP + 1)
    return run.random.choice(
        (
            (ProposeChange("low", ChangeParameter(name, lowest - 1)), "change-bounds"),
            (ProposeChange("high", ChangeParameter(name, highest + 1)), "change-bounds"),
            (ProposeChange("other", ChangeParameter("subsidy", 1)), "change-parameter"),
            (ProposeChange("much", share), "share-bounds"),
            (ProposeChange("nothing", SpendTreasury(recipient, 0)), "amount"),
            (ProposeChange("nobody", SpendTreasury(NO_POINT, 1)), "recipient"),
            (ProposeChange("", share), "proposal-title"),
        )
    )
