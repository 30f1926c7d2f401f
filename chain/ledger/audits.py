"""Audits: the beacon assigns segments to auditors, who prove that they executed them again and are paid for it.

The beacon that draws a segment's places draws its auditors too, among those who stood on the list before the commit. A
proof is due before the round ends. Settlement waits for none: an auditor's silence costs the auditor alone. Whoever has
proven vouches; if the segment falls in a dispute after all, so does the auditor's bond. It knows no tensor.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chain.audit import ProveAudit
from chain.errors import InvalidProof, InvalidTransaction
from chain.genesis import Parameters
from chain.hashing import tagged_hash
from chain.ledger.audit_records import ActiveAuditor, Audit, Audits
from chain.ledger.auditors import apply_forfeit, apply_missed, apply_paid, apply_proven
from chain.ledger.context import AuditChanged, AuditOutcome, BlockScope, Event
from chain.ledger.keys import AUDITORS_KEY, audits_key, contribution_key, dispute_key
from chain.ledger.records import Contribution, ContributionKey, DisputeKey, TaskState
from chain.ledger.tasks import Task, get_segment_context, get_state, get_task
from chain.ledger.transition import ContributionStatus
from chain.primitives import BASIS_POINTS, Hash, PublicKey
from chain.state.view import StateView

AUDITABLE = frozenset({ContributionStatus.CHALLENGED, ContributionStatus.PROVEN})
"""Where a contribution stands whose audit can be proven."""
HASH_BITS, U64_BITS, LOG_BITS = 256, 64, 32
_STANDING = frozenset({ContributionStatus.SETTLED, ContributionStatus.HELD})


@dataclass(frozen=True, slots=True)
class DueAudit:
    """A proven audit of a segment that settles, and the MACs that it is paid for."""

    task: Hash
    round: int
    key: ContributionKey
    auditor: PublicKey
    macs: int


def compute_audit_challenge(challenge: Hash, auditor: PublicKey) -> Hash:
    """Return the randomness that draws what an auditor shows of a segment with this `challenge`."""
    return tagged_hash("audit", challenge, auditor)


def draw_auditors(
    parameters: Parameters, contribution: Contribution, miner: PublicKey, listed: tuple[ActiveAuditor, ...]
) -> tuple[PublicKey, ...]:
    """Return the auditors of a contribution whose challenge is drawn.

    Each has a number by its key and bond; the lowest are drawn, so each with a chance in proportion to its bond.
    Nobody's entering or leaving changes whether another is, and whoever stood on the list before the commit knew
    nothing that a key could have been chosen by.
    """
    whole, rest = divmod(parameters.audit_bp, BASIS_POINTS)
    lot = int.from_bytes(tagged_hash("audit.count", contribution.challenge), "big") % BASIS_POINTS
    able = [
        (compute_draw_number(contribution.challenge, each), each.auditor)
        for each in listed
        if each.since_height < contribution.commit_height and each.auditor != miner and each.bond
    ]
    return tuple(auditor for _, auditor in sorted(able)[: whole + (lot < rest)])


def compute_draw_number(challenge: Hash, entry: ActiveAuditor) -> int:
    """Return an auditor's number in a draw: -log2 of a uniform chance, by its bond.

    Such numbers are exponentially distributed at the rate of the bond, so each is the lowest with a chance in
    proportion to it (Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006).
    """
    drawn = int.from_bytes(tagged_hash("audit.draw", challenge, entry.auditor), "big")
    return ((HASH_BITS << LOG_BITS) - compute_log2((1 << HASH_BITS) - drawn) << U64_BITS) // entry.bond


def compute_log2(number: int) -> int:
    """Return log2 of a positive number in units of 2^-32, rounded down, but for what squaring at 64 bits loses."""
    whole = number.bit_length() - 1
    mantissa = number << U64_BITS - 1 >> whole
    fraction = 0
    for _ in range(LOG_BITS):
        mantissa = mantissa * mantissa >> U64_BITS - 1
        bit = mantissa >> U64_BITS
        mantissa >>= bit
        fraction = fraction << 1 | bit
    return whole << LOG_BITS | fraction


def apply_assignment(
    scope: BlockScope, view: StateView, task: Task, key: ContributionKey, contribution: Contribution
) -> tuple[Event, ...]:
    """Assign a contribution to a task's running round whose challenge was just drawn."""
    listed, round_number = view.get_existing(AUDITORS_KEY).auditors, get_state(view, task).round
    drawn = draw_auditors(scope.context.parameters, contribution, key.miner, listed)
    if not drawn:
        return ()
    view.put(audits_key(task.name, round_number, key), Audits(tuple(Audit(each, 0) for each in drawn)))
    return tuple(AuditChanged(task.name, round_number, key, auditor, AuditOutcome.ASSIGNED, 0, 0) for auditor in drawn)


def apply_prove_audit(scope: BlockScope, view: StateView, auditor: PublicKey, proof: ProveAudit) -> tuple[Event, ...]:
    """Take the proof of an audit in time; raises InvalidTransaction, MissingData."""
    task, key = get_task(scope.context, view, proof.task), ContributionKey(proof.miner, proof.index)
    state = get_state(view, task)
    if proof.round != state.round:
        raise InvalidTransaction("audit-late", f"found a contribution of round {proof.round}, expected {state.round}")
    place = audits_key(task.name, proof.round, key)
    found = view.get(place) or Audits(())
    assigned = {audit.auditor: audit for audit in found.audits}
    if auditor not in assigned:
        raise InvalidTransaction("audit-unassigned", f"found {auditor.hex()}, expected an auditor who was drawn")
    if assigned[auditor].is_proven:
        raise InvalidTransaction("audit-duplicate", "found a second proof, expected one")
    contribution = view.get_existing(contribution_key(task.name, proof.round, key))
    if contribution.status not in AUDITABLE:
        raise InvalidTransaction("audit-status", f"found {contribution.status.name}, expected CHALLENGED or PROVEN")
    if proof.challenge != contribution.challenge:
        message = f"found {proof.challenge.hex()}, expected {contribution.challenge.hex()}"
        raise InvalidTransaction("audit-challenge", message)
    _verify(scope, view, (task, state), contribution, auditor, proof)
    proven = tuple(replace(audit, is_proven=1) if audit.auditor == auditor else audit for audit in found.audits)
    view.put(place, Audits(proven))
    apply_proven(view, auditor)
    return (AuditChanged(task.name, proof.round, key, auditor, AuditOutcome.PROVEN, 0, 0),)


def _verify(
    scope: BlockScope,
    view: StateView,
    trained: tuple[Task, TaskState],
    contribution: Contribution,
    auditor: PublicKey,
    proof: ProveAudit,
) -> None:
    task, state = trained
    segment = get_segment_context(scope.context, view, task, state.round, contribution)
    sidecar = scope.content.get_sidecar(contribution.sidecar_hash)
    challenge = compute_audit_challenge(contribution.challenge, auditor)
    try:
        scope.learning.verify_audit(task.spec, segment, sidecar, challenge, proof.digests)
    except InvalidProof as error:
        raise InvalidTransaction(error.rule, f"an audit is refused: {error}") from error


def apply_audit_outcomes(
    scope: BlockScope, view: StateView, task: Task
) -> tuple[tuple[DueAudit, ...], tuple[Event, ...]]:
    """End the audits of a task's round that ends with this block; return those due for pay, and what happened.

    Those that are proven wait where a dispute about the segment does. An auditor that disputes what stands has done its
    duty; of what does not stand nobody owes a proof.
    """
    state, parameters = get_state(view, task), scope.context.parameters
    due: list[DueAudit] = []
    events: list[Event] = []
    for key in state.contributions:
        contribution = view.get_existing(contribution_key(task.name, state.round, key))
        proven, open_ = take_audits(view, task.name, state.round, key)
        if contribution.status in _STANDING:
            silent = (DisputeKey(task.name, state.round, key.miner, key.index, each) for each in open_)
            events += [_apply_silence(scope, view, each) for each in silent]
        if contribution.status is ContributionStatus.SETTLED:
            due += _list_due(parameters, (task.name, state.round), (key, contribution), proven)
        elif contribution.disputes and proven:
            waiting = Audits(tuple(Audit(auditor, 1) for auditor in proven))
            view.put(audits_key(task.name, state.round, key), waiting)
    return tuple(due), tuple(events)


def take_due_audits(
    parameters: Parameters, view: StateView, task: Hash, round_number: int, entry: tuple[ContributionKey, Contribution]
) -> tuple[DueAudit, ...]:
    """Take out the audits of a segment that was held and settles now, to be paid."""
    proven, _ = take_audits(view, task, round_number, entry[0])
    return tuple(_list_due(parameters, (task, round_number), entry, proven))


def apply_audit_pay(view: StateView, due: DueAudit, amount: int) -> Event:
    """Pay an audit `amount` atoms, taken elsewhere."""
    apply_paid(view, due.auditor, amount)
    return AuditChanged(due.task, due.round, due.key, due.auditor, AuditOutcome.PAID, amount, 0)


def has_voucher(view: StateView, key: DisputeKey) -> bool:
    """Say whether an auditor has vouched for the contribution of a dispute, and it is not decided yet."""
    found = view.get(audits_key(key.task, key.round, ContributionKey(key.miner, key.index)))
    return found is not None and any(audit.is_proven for audit in found.audits)


def apply_fallen(scope: BlockScope, view: StateView, won: DisputeKey) -> tuple[Event, ...]:
    """Take what the bonds of those answer with who vouched for a segment that a dispute has shown to be false."""
    events: list[Event] = []
    key = ContributionKey(won.miner, won.index)
    for auditor in take_audits(view, won.task, won.round, key)[0]:
        paid, burned = apply_forfeit(scope, view, auditor, won.challenger)
        events.append(AuditChanged(won.task, won.round, key, auditor, AuditOutcome.FALLEN, paid, burned))
    return tuple(events)


def take_audits(
    view: StateView, task: Hash, round_number: int, key: ContributionKey
) -> tuple[tuple[PublicKey, ...], tuple[PublicKey, ...]]:
    """Take a contribution's audits out of the state; return who has proven and who has not."""
    place = audits_key(task, round_number, key)
    found = view.get(place)
    if found is None:
        return (), ()
    view.delete(place)
    proven = tuple(audit.auditor for audit in found.audits if audit.is_proven)
    return proven, tuple(audit.auditor for audit in found.audits if not audit.is_proven)


def _list_due(
    parameters: Parameters,
    ended: tuple[Hash, int],
    entry: tuple[ContributionKey, Contribution],
    proven: tuple[PublicKey, ...],
) -> Iterator[DueAudit]:
    key, contribution = entry
    macs = contribution.macs * parameters.audit_pay_bp // BASIS_POINTS
    return (DueAudit(*ended, key, auditor, macs) for auditor in proven)


def _apply_silence(scope: BlockScope, view: StateView, own: DisputeKey) -> Event:
    """End an audit that was not proven; `own` is the dispute that its auditor may have begun instead."""
    ended = own.task, own.round, ContributionKey(own.miner, own.index), own.challenger
    if view.get(dispute_key(own)) is not None:
        return AuditChanged(*ended, AuditOutcome.DISPUTED, 0, 0)
    return AuditChanged(*ended, AuditOutcome.MISSED, 0, apply_missed(scope, view, own.challenger))
