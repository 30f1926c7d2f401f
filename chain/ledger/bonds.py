"""Bonds, what burns them, and how they are taken back.

Evidence is two headers that a miner signed for one ticket. What they cost is whatever the state still holds against
them: the reward of that height while it is locked, and the bond that stood when the height was reached. So a report
needs no register of earlier ones: where nothing is at stake any more it is refused. Evidence ages, and a bond is given
back when all that its miner did on it is too old to be shown. It knows neither blocks nor tickets' worth.
"""

from dataclasses import dataclass, replace

from chain.errors import InvalidTransaction
from chain.genesis import Parameters
from chain.header import Header, compute_header_hash, compute_signing_hash, compute_trunk_hash
from chain.ledger.accounts import apply_burn, apply_credit, apply_debit
from chain.ledger.context import BlockScope, EquivocationPunished, Event
from chain.ledger.keys import locked_reward_key, miner_key
from chain.ledger.records import NO_MINER
from chain.primitives import Hash, PublicKey
from chain.signature import verify_signature
from chain.state.view import StateView
from chain.transaction import PostBond, ReportEquivocation, WithdrawBond

REPORTER_PERCENT = 10
"""Of what equivocation costs: to whoever is named by the report. All else burns, so reporting oneself saves little."""


@dataclass(frozen=True, slots=True)
class Forfeit:
    """Atoms that a header's miner may still lose for it."""

    reward: int
    bond: int


NOTHING = Forfeit(0, 0)


def make_report(one: Header, other: Header, recipient: PublicKey) -> ReportEquivocation:
    """Return the report of two headers, in the one order that is valid."""
    first, second = sorted((one, other), key=compute_header_hash)
    return ReportEquivocation(first, second, recipient)


def get_forfeit(parameters: Parameters, view: StateView, header: Header, height: int) -> Forfeit:
    """Return what the state holds against a header's miner for its height, in a block at `height`."""
    foliage = header.foliage
    if height - foliage.height > parameters.evidence_blocks:
        return NOTHING
    locked, miner = view.get(locked_reward_key(foliage.height)), view.get(miner_key(foliage.miner))
    is_locked = locked is not None and (locked.miner, locked.ticket) == (foliage.miner, header.trunk.ticket)
    # A bond answers for the heights after it was posted: what an earlier one has paid for is not paid for again.
    is_bonded = miner is not None and foliage.height > miner.registered_height
    return Forfeit(locked.amount if locked and is_locked else 0, miner.bond if miner and is_bonded else 0)


def apply_report(scope: BlockScope, view: StateView, report: ReportEquivocation) -> tuple[Event, ...]:
    """Burn what is at stake but for the reporter's part; raises InvalidTransaction."""
    _validate_pair(report)
    foliage = report.first.foliage
    if foliage.height >= scope.draft.height:
        raise InvalidTransaction("evidence-height", f"found {foliage.height}, expected below {scope.draft.height}")
    forfeit = get_forfeit(scope.context.parameters, view, report.first, scope.draft.height)
    total = forfeit.reward + forfeit.bond
    if not total:
        message = f"found neither a locked reward nor a bond for height {foliage.height}, expected one of them"
        raise InvalidTransaction("evidence-spent", message)
    _validate_signatures(scope.context.chain_id, report)
    if forfeit.reward:
        key = locked_reward_key(foliage.height)
        view.put(key, replace(view.get_existing(key), amount=0))
    if forfeit.bond:
        miner = view.get_existing(miner_key(foliage.miner))
        view.put(miner_key(foliage.miner), replace(miner, bond=0, release_height=0))
    paid = total * REPORTER_PERCENT // 100
    apply_credit(view, report.recipient, paid)
    apply_burn(view, total - paid)
    return (EquivocationPunished(foliage.height, foliage.miner, total - paid, report.recipient, paid),)


def apply_post_bond(scope: BlockScope, view: StateView, sender: PublicKey, post: PostBond) -> None:
    """Lock the bond of a key that has none: it is a miner from here on. Raises InvalidTransaction."""
    miner, expected = view.get(miner_key(sender)) or NO_MINER, scope.context.parameters.bond
    if miner.bond:
        raise InvalidTransaction("bond-held", f"found a bond of {miner.bond} atoms, expected none")
    if post.amount != expected:
        raise InvalidTransaction("bond-amount", f"found {post.amount} atoms, expected {expected}")
    apply_debit(view, sender, post.amount)
    view.put(miner_key(sender), replace(miner, registered_height=scope.draft.height, bond=post.amount))


def apply_withdraw_bond(scope: BlockScope, view: StateView, sender: PublicKey, withdraw: WithdrawBond) -> None:
    """Give notice for a miner's bond, or pay out one whose release height is reached; raises InvalidTransaction."""
    miner, height = view.get(miner_key(sender)), scope.draft.height
    if miner is None:
        raise InvalidTransaction("bond-miner", f"found {sender.hex()}, expected a key that has posted a miner's bond")
    if not miner.bond:
        raise InvalidTransaction("bond-none", "found no bond, expected one to withdraw")
    if withdraw.amount != miner.bond:
        raise InvalidTransaction("bond-amount", f"found {withdraw.amount} atoms, expected {miner.bond}")
    if not miner.release_height:
        # This block may be the miner's own, and is its last. Evidence about it is taken until the block before.
        release_height = height + scope.context.parameters.evidence_blocks + 1
        view.put(miner_key(sender), replace(miner, release_height=release_height))
    elif height < miner.release_height:
        raise InvalidTransaction("bond-release", f"found height {height}, expected at least {miner.release_height}")
    else:
        view.put(miner_key(sender), replace(miner, bond=0, release_height=0))
        apply_credit(view, sender, miner.bond)


def _validate_pair(report: ReportEquivocation) -> None:
    """Check that the headers are two, in order, and of one miner, place and ticket; raises InvalidTransaction."""
    first, second = report.first, report.second
    if not compute_header_hash(first) < compute_header_hash(second):
        raise InvalidTransaction("evidence-order", "found two headers out of order or alike, expected ascending hashes")
    places = [(h.foliage.miner, h.foliage.height, h.foliage.parent_hash, h.trunk) for h in (first, second)]
    if places[0] != places[1]:
        raise InvalidTransaction("evidence-place", "found headers of two places, expected one miner, place and trunk")
    trunk_hash = compute_trunk_hash(first.trunk)
    for header in (first, second):
        if header.foliage.trunk_hash != trunk_hash:
            message = f"found {header.foliage.trunk_hash.hex()}, expected {trunk_hash.hex()}"
            raise InvalidTransaction("evidence-trunk", message)


def _validate_signatures(chain_id: Hash, report: ReportEquivocation) -> None:
    for header in (report.first, report.second):
        message = compute_signing_hash(chain_id, header.foliage)
        if not verify_signature(header.foliage.miner, message, header.signature):
            raise InvalidTransaction("evidence-signature", f"found one that {header.foliage.miner.hex()} did not make")
