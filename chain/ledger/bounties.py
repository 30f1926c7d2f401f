"""Bounties: atoms that anybody puts up for a task's model to reach a score by a height.

A bounty names how many held-out records the model must answer; the split and how it is scored are the task's and were
fixed with it, so nobody can move the mark. Each settled round is held against all of them: one whose mark is reached is
income of the model, for whoever then holds its shares; one whose height has passed goes back. Few are open at a time;
when they are full, a larger one sends the smallest back. It knows no trainer and no vote.
"""

from dataclasses import replace

from chain.codec import encode
from chain.errors import InvalidTransaction
from chain.hashing import tagged_hash
from chain.ledger.accounts import apply_credit, apply_debit
from chain.ledger.context import BlockScope, BountyDecided, BountyOutcome, Event
from chain.ledger.economy_records import OPEN_BOUNTIES_MAX, Bounty, OpenBounties
from chain.ledger.income import apply_payment
from chain.ledger.keys import bounty_key, open_bounties_key
from chain.ledger.tasks import Task, get_live_task, get_state
from chain.primitives import ATOMS_PER_COIN, Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import PostBounty

BOUNTY_MIN = ATOMS_PER_COIN
"""Atoms of the smallest bounty: what room among the open ones costs until its height."""

SPAN_MAX = 1_000_000
"""Blocks for which a bounty may stand."""


def compute_bounty_id(chain_id: Hash, poster: PublicKey, terms: PostBounty) -> Hash:
    """Return the name of a bounty."""
    return tagged_hash("bounty", chain_id, poster, encode(terms))


def validate_bounty_terms(terms: PostBounty) -> None:
    """Check what needs no state; raises InvalidTransaction."""
    if terms.amount < BOUNTY_MIN:
        raise InvalidTransaction("bounty-amount", f"found {terms.amount} atoms, expected at least {BOUNTY_MIN}")
    if not terms.correct_min:
        raise InvalidTransaction("bounty-mark", "found 0 records, expected at least 1")


def apply_post_bounty(scope: BlockScope, view: StateView, poster: PublicKey, terms: PostBounty) -> tuple[Event, ...]:
    """Lock a bounty's atoms until its mark is reached or its height has passed; raises InvalidTransaction."""
    context, height = scope.context, scope.draft.height
    task = get_live_task(context, view, terms.task)
    if not height < terms.last_height <= height + SPAN_MAX:
        message = f"found {terms.last_height}, expected above {height} and at most {height + SPAN_MAX}"
        raise InvalidTransaction("bounty-height", message)
    state, name = get_state(view, task), compute_bounty_id(context.chain_id, poster, terms)
    if state.heldout_correct >= terms.correct_min:
        message = f"found {terms.correct_min} records, expected more than the {state.heldout_correct} answered already"
        raise InvalidTransaction("bounty-reached", message)
    before = view.get(open_bounties_key(terms.task)) or OpenBounties(())
    if name in before.names:
        raise InvalidTransaction("bounty-known", f"found {name.hex()} open already, expected other terms")
    apply_debit(view, poster, terms.amount)
    names, events = before.names, tuple[Event, ...]()
    if len(names) == OPEN_BOUNTIES_MAX:
        smallest = min(names, key=lambda each: (view.get_existing(bounty_key(each)).terms.amount, each))
        least = view.get_existing(bounty_key(smallest)).terms.amount
        if terms.amount <= least:
            raise InvalidTransaction("bounty-full", f"found {terms.amount} atoms, expected more than {least}")
        events = (_apply_return(view, smallest, BountyOutcome.DISPLACED),)
        names = tuple(each for each in names if each != smallest)
    view.put(open_bounties_key(terms.task), OpenBounties((*names, name)))
    view.put(bounty_key(name), Bounty(poster, terms, height))
    return events


def apply_due_bounties(scope: BlockScope, view: StateView, task: Task) -> tuple[Event, ...]:
    """Hold a task's open bounties against the score that its last round ended with; pay and return what is due."""
    state, before = get_state(view, task), view.get(open_bounties_key(task.name))
    if before is None:
        return ()
    events: list[Event] = []
    for name in before.names:
        bounty = view.get_existing(bounty_key(name))
        if scope.draft.height > bounty.terms.last_height:
            events.append(_apply_return(view, name, BountyOutcome.RETURNED))
        elif state.heldout_correct >= bounty.terms.correct_min:
            view.delete(bounty_key(name))
            apply_payment(view, task.name, bounty.terms.amount)
            events.append(BountyDecided(name, BountyOutcome.PAID, bounty.terms.amount))
    decided = {event.name for event in events if isinstance(event, BountyDecided)}
    left = tuple(name for name in before.names if name not in decided)
    if left:
        view.put(open_bounties_key(task.name), replace(before, names=left))
    else:
        view.delete(open_bounties_key(task.name))
    return tuple(events)


def apply_return_bounties(view: StateView, task: Task) -> tuple[Event, ...]:
    """Return the open bounties of a task that ends."""
    before = view.get(open_bounties_key(task.name)) or OpenBounties(())
    view.delete(open_bounties_key(task.name))
    return tuple(_apply_return(view, name, BountyOutcome.RETURNED) for name in before.names)


def _apply_return(view: StateView, name: Hash, outcome: BountyOutcome) -> BountyDecided:
    bounty = view.get_existing(bounty_key(name))
    view.delete(bounty_key(name))
    apply_credit(view, bounty.poster, bounty.terms.amount)
    return BountyDecided(name, outcome, bounty.terms.amount)
