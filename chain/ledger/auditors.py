"""Auditors: they enter on a bond, are drawn while they stand on the list, and leave with notice.

A bond answers for two things: an assignment that is let pass costs a part of it, a segment vouched for that falls in a
dispute all of it. So it is held until the last dispute about what its auditor may have vouched for is over. It knows
no segment.
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


def apply_register(scope: BlockScope, view: StateView, sender: PublicKey, register: RegisterAuditor) -> None:
    """Lock a bond and put the sender on the list; raises InvalidTransaction."""
    expected, listed = scope.context.parameters.auditor_bond, view.get_existing(AUDITORS_KEY).auditors
    held = view.get(auditor_key(sender))
    if held is not None:
        raise InvalidTransaction("auditor-held", f"found a bond of {held.bond} atoms, expected none")
    if register.amount != expected:
        raise InvalidTransaction("auditor-bond", f"found {register.amount} atoms, expected {expected}")
    if len(listed) >= AUDITORS_MAX:
        raise InvalidTransaction("auditors-full", f"found {len(listed)} auditors, the most there may be")
    apply_debit(view, sender, register.amount)
    height = scope.draft.height
    view.put(AUDITORS_KEY, ActiveAuditors((*listed, ActiveAuditor(sender, height))))
    view.put(auditor_key(sender), Auditor(height, register.amount, release_height=0, missed=0, proven=0, paid=0))


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
    view.put(auditor_key(key), after)
    if after.missed == MISSES_MAX and not after.release_height:
        _apply_notice(scope, view, key, after)
    return burned


def apply_forfeit(view: StateView, key: PublicKey, winner: PublicKey) -> tuple[int, int]:
    """Take all of an auditor's bond, half of it for `winner`; return what was paid and what burned, in atoms."""
    auditor = view.get(auditor_key(key))
    if auditor is None:
        return 0, 0
    _apply_delisting(view, key)
    view.delete(auditor_key(key))
    return apply_halves(view, auditor.bond, winner)


def compute_release_blocks(parameters: Parameters) -> int:
    """Return the blocks from an auditor's notice to its bond's release.

    What it was drawn for is vouched for before its round ends. A dispute about it begins before that too, and is lost
    by silence at the latest after three demands and two answers, each a window after what it follows.
    """
    return parameters.round_blocks + 5 * parameters.dispute_window


def _apply_notice(scope: BlockScope, view: StateView, key: PublicKey, auditor: Auditor) -> None:
    release_height = scope.draft.height + compute_release_blocks(scope.context.parameters)
    view.put(auditor_key(key), replace(auditor, release_height=release_height))
    _apply_delisting(view, key)


def _apply_delisting(view: StateView, key: PublicKey) -> None:
    listed = view.get_existing(AUDITORS_KEY).auditors
    view.put(AUDITORS_KEY, ActiveAuditors(tuple(each for each in listed if each.auditor != key)))
