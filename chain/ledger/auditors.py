"""Auditors: they enter on a bond, are drawn by it while they stand on the list, and leave with notice.

A bond answers for two things: an assignment that is let pass costs a part of it, a segment vouched for that falls in a
dispute the least bond that there may be. So it is held until the last dispute about what its auditor may have vouched
for is over. Seats are bounded, and held by bond: once all are taken, a larger one takes that of the least. It knows no
segment.
"""

from dataclasses import replace

from chain.audit import RegisterAuditor, RetireAuditor
from chain.errors import InvalidTransaction
from chain.genesis import Parameters
from chain.ledger.accounts import apply_burn, apply_credit, apply_debit, apply_halves
from chain.ledger.audit_records import AUDITORS_MAX, ActiveAuditor, ActiveAuditors, Auditor
from chain.ledger.context import BlockScope
from chain.ledger.keys import AUDITORS_KEY, auditor_key
from chain.primitives import PublicKey
from chain.state.view import StateView

MISSES_MAX = 3
"""Assignments let pass one after another that take an auditor off the list: whoever is gone is drawn no more."""
STEP_PART = 8
"""A newcomer takes the seat of the least bond with one that is larger by so small a part of it at least: whoever has a
seat is not put off it for next to nothing."""


def apply_register(scope: BlockScope, view: StateView, sender: PublicKey, register: RegisterAuditor) -> None:
    """Lock a bond and put the sender on the list, or add to the bond that it has; raises InvalidTransaction."""
    held = view.get(auditor_key(sender))
    if held is not None:
        _apply_raise(scope, view, sender, held, register.amount)
        return
    parameters, listed = scope.context.parameters, view.get_existing(AUDITORS_KEY).auditors
    asked, is_full = compute_asked_bond(parameters, listed), len(listed) >= AUDITORS_MAX
    if register.amount < asked:
        rule = "auditors-full" if is_full else "auditor-bond"
        raise InvalidTransaction(rule, f"found {register.amount} atoms, expected at least {asked}")
    if is_full:
        _validate_nothing_drawn(scope)
    apply_debit(view, sender, register.amount)
    if is_full:
        least = _find_least(listed).auditor
        _apply_notice(scope, view, least, view.get_existing(auditor_key(least)))
    height, listed = scope.draft.height, view.get_existing(AUDITORS_KEY).auditors
    view.put(AUDITORS_KEY, ActiveAuditors((*listed, ActiveAuditor(sender, height, register.amount))))
    view.put(auditor_key(sender), Auditor(height, register.amount, release_height=0, missed=0, proven=0, paid=0))


def compute_asked_bond(parameters: Parameters, listed: tuple[ActiveAuditor, ...]) -> int:
    """Return the atoms that a newcomer has to lock at least, for a seat of its own or for that of the least bond."""
    if len(listed) < AUDITORS_MAX:
        return parameters.auditor_bond
    least = _find_least(listed).bond
    return max(parameters.auditor_bond, least + max(1, least // STEP_PART))


def apply_retire(scope: BlockScope, view: StateView, sender: PublicKey, retire: RetireAuditor) -> None:
    """Take the sender off the list, or pay out a bond whose release height is reached; raises InvalidTransaction."""
    auditor, height = view.get(auditor_key(sender)), scope.draft.height
    if auditor is None:
        raise InvalidTransaction("auditor-none", f"found no bond of {sender.hex()}, expected one")
    if retire.amount != auditor.bond:
        raise InvalidTransaction("auditor-bond", f"found {retire.amount} atoms, expected {auditor.bond}")
    if not auditor.release_height:
        _apply_notice(scope, view, sender, auditor)
    elif height < auditor.release_height:
        raise InvalidTransaction(
            "auditor-release", f"found height {height}, expected at least {auditor.release_height}"
        )
    else:
        view.delete(auditor_key(sender))
        apply_credit(view, sender, auditor.bond)


def apply_proven(view: StateView, key: PublicKey) -> None:
    """Count an assignment that an auditor has proven."""
    auditor = view.get(auditor_key(key))
    if auditor is not None:
        view.put(auditor_key(key), replace(auditor, missed=0, proven=auditor.proven + 1))


def apply_paid(view: StateView, key: PublicKey, amount: int) -> None:
    """Pay for an audit `amount` atoms, taken elsewhere, and count them while the auditor stands."""
    apply_credit(view, key, amount)
    auditor = view.get(auditor_key(key))
    if auditor is not None:
        view.put(auditor_key(key), replace(auditor, paid=auditor.paid + amount))


def apply_missed(scope: BlockScope, view: StateView, key: PublicKey) -> int:
    """Burn what an assignment costs that an auditor let pass, take it off the list in the end; return the atoms."""
    auditor = view.get(auditor_key(key))
    if auditor is None:
        return 0
    burned = min(auditor.bond, scope.context.parameters.audit_penalty)
    apply_burn(view, burned)
    after = replace(auditor, bond=auditor.bond - burned, missed=min(auditor.missed + 1, MISSES_MAX))
    _put_bond(view, key, after)
    if after.missed == MISSES_MAX and not after.release_height:
        _apply_notice(scope, view, key, after)
    return burned


def apply_forfeit(scope: BlockScope, view: StateView, key: PublicKey, winner: PublicKey) -> tuple[int, int]:
    """Take what an auditor's bond answers for a segment with, half of it for `winner`, and its seat.

    What is more than the least bond there may be stands for a seat and a larger part of the draws: were it lost too, a
    miner that falls silent would take the more from whoever vouched for it the more that has locked. Return what was
    paid and what burned, in atoms.
    """
    auditor = view.get(auditor_key(key))
    if auditor is None:
        return 0, 0
    lost = min(auditor.bond, scope.context.parameters.auditor_bond)
    after = replace(auditor, bond=auditor.bond - lost)
    if not after.bond:
        _apply_delisting(view, key)
        view.delete(auditor_key(key))
    elif after.release_height:
        view.put(auditor_key(key), after)
    else:
        _apply_notice(scope, view, key, after)
    return apply_halves(view, lost, winner)


def compute_release_blocks(parameters: Parameters) -> int:
    """Return the blocks from an auditor's notice to its bond's release.

    What it was drawn for is vouched for before its round ends. A dispute about it begins before that too, and is lost
    by silence at the latest after three demands and two answers, each a window after what it follows.
    """
    return parameters.round_blocks + 5 * parameters.dispute_window


def _apply_raise(scope: BlockScope, view: StateView, key: PublicKey, auditor: Auditor, amount: int) -> None:
    """Add to the bond of an auditor that is on the list; it is drawn as one that has just entered."""
    if auditor.release_height:
        raise InvalidTransaction("auditor-held", f"found a bond of {auditor.bond} atoms that is leaving, expected none")
    if not amount:
        raise InvalidTransaction("auditor-bond", "found 0 atoms, expected at least 1")
    # A producer knows its block's beacon before it chooses transactions: what is drawn there must not follow from them,
    # nor may it put in a raise that takes an auditor out of what is drawn.
    _validate_nothing_drawn(scope)
    apply_debit(view, key, amount)
    _put_bond(view, key, replace(auditor, since_height=scope.draft.height, bond=auditor.bond + amount))


def _validate_nothing_drawn(scope: BlockScope) -> None:
    """Check that the round's auditors are all drawn: whoever is put off the list cannot be, by who knows a beacon."""
    parameters, height = scope.context.parameters, scope.draft.height
    start = (height - 1) // parameters.round_blocks * parameters.round_blocks
    drawn_height = start + parameters.commit_blocks + parameters.challenge_delay
    if height <= drawn_height:
        message = f"found height {height}, expected one from {drawn_height + 1} to {start + parameters.round_blocks}"
        raise InvalidTransaction("auditors-drawn", message)


def _find_least(listed: tuple[ActiveAuditor, ...]) -> ActiveAuditor:
    """Return the auditor of the least bond; of several, the one that entered last."""
    return min(reversed(listed), key=lambda each: each.bond)


def _put_bond(view: StateView, key: PublicKey, auditor: Auditor) -> None:
    """Keep an auditor and, if it is on the list, what it is drawn by."""
    view.put(auditor_key(key), auditor)
    if not auditor.release_height:
        listed, entry = view.get_existing(AUDITORS_KEY).auditors, ActiveAuditor(key, auditor.since_height, auditor.bond)
        view.put(AUDITORS_KEY, ActiveAuditors(tuple(entry if each.auditor == key else each for each in listed)))


def _apply_notice(scope: BlockScope, view: StateView, key: PublicKey, auditor: Auditor) -> None:
    release_height = scope.draft.height + compute_release_blocks(scope.context.parameters)
    view.put(auditor_key(key), replace(auditor, release_height=release_height))
    _apply_delisting(view, key)


def _apply_delisting(view: StateView, key: PublicKey) -> None:
    listed = view.get_existing(AUDITORS_KEY).auditors
    view.put(AUDITORS_KEY, ActiveAuditors(tuple(each for each in listed if each.auditor != key)))
