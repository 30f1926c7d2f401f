"""Auditors in a random history: who enters and leaves, who was drawn, who proves, is silent, or vouches falsely.

The draw is the ledger's; that it is among those whom the books know to stand, and of as many as there have to be, is
compared. Everything that an audit moves is told here again, from the books alone.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.lab.economy.world import PARAMETERS, Broken
from chain.audit import ProveAudit, RegisterAuditor, RetireAuditor
from chain.ledger.audits import compute_audit_challenge
from chain.ledger.keys import audits_key, contribution_key
from chain.ledger.learning import SegmentContext
from chain.ledger.records import ContributionKey
from chain.primitives import ZERO_HASH, PublicKey

if TYPE_CHECKING:
    from benchmarks.lab.economy.history import History

WHOLE = 10_000
MISSES = 3
RELEASE_BLOCKS = PARAMETERS.round_blocks + 5 * PARAMETERS.dispute_window


@dataclass(slots=True)
class AuditorBook:
    """What an auditor has at stake, since when, and until when if it has left."""

    bond: int
    since: int
    release: int = 0
    missed: int = 0


@dataclass(slots=True)
class AuditBooks:
    """All auditors, and the audits of the running round."""

    auditors: dict[PublicKey, AuditorBook] = field(default_factory=dict)
    assigned: dict[PublicKey, list[PublicKey]] = field(default_factory=dict)
    """By miner: who was drawn for its segment and has not proven it."""
    proven: dict[PublicKey, list[PublicKey]] = field(default_factory=dict)

    @property
    def bonds(self) -> int:
        """Atoms of all bonds."""
        return sum(auditor.bond for auditor in self.auditors.values())


def register(run: "History") -> None:
    """Enter an auditor, a second time, or with a bond that is not the one asked for."""
    key, bond = run.random.choice(run.keys), PARAMETERS.auditor_bond
    books = run.books.audits.auditors
    if key.public_key in books:
        run.refuse(key, RegisterAuditor(bond), "auditor-held")
    elif run.has_claimed(key.public_key) or run.balance_of(key.public_key) < 3 * bond:
        return
    elif run.random.random() < 0.1:
        run.refuse(key, RegisterAuditor(bond + 1), "auditor-bond")
    else:
        run.oracle.credit(key.public_key, -bond)
        books[key.public_key] = AuditorBook(bond, run.world.tip.height + 1)
        run.enter(key, RegisterAuditor(bond))


def retire(run: "History") -> None:
    """Leave, take the bond back, or try to too early or without one."""
    key, height = run.random.choice(run.keys), run.world.tip.height + 1
    books = run.books.audits.auditors
    found = books.get(key.public_key)
    if found is None:
        run.refuse(key, RetireAuditor(PARAMETERS.auditor_bond), "auditor-none")
    elif not found.release:
        found.release = height + RELEASE_BLOCKS
        run.enter(key, RetireAuditor(found.bond))
    elif height < found.release:
        run.refuse(key, RetireAuditor(found.bond), "auditor-release")
    else:
        del books[key.public_key]
        run.oracle.credit(key.public_key, found.bond)
        run.enter(key, RetireAuditor(found.bond))
        run.counts["audit bonds given back"] += 1


def note_draw(run: "History") -> None:
    """Take down who was drawn in the block just mined; raises Broken when it is not who may be."""
    books, world = run.books.audits, run.world
    books.assigned, books.proven = {}, {}
    state = world.round
    for miner in run.round.segments:
        key = ContributionKey(miner, 0)
        commit_height = world.view.get_existing(contribution_key(world.context.task_id, state.round, key)).commit_height
        able = {
            auditor
            for auditor, book in books.auditors.items()
            if not book.release and book.since < commit_height and auditor != miner
        }
        found = world.view.get(audits_key(world.context.task_id, state.round, key))
        drawn = [] if found is None else [audit.auditor for audit in found.audits]
        whole = PARAMETERS.audit_bp // WHOLE
        if not set(drawn) <= able or len(drawn) not in {min(len(able), whole), min(len(able), whole + 1)}:
            raise Broken(f"drawn: found {len(drawn)} of {len(able)} auditors who may be, or others")
        books.assigned[miner], books.proven[miner] = drawn, []
        run.counts["audits assigned"] += len(drawn)


def prove(run: "History", chance: float) -> None:
    """Prove each open audit with a chance, of forged segments too: whoever does so vouches falsely."""
    books, world = run.books.audits, run.world
    state = world.round
    for miner, drawn in books.assigned.items():
        for auditor in tuple(drawn):
            key = run.find_key(auditor)
            action = _make_proof(run, miner, auditor)
            if miner in run.round.lost and world.place == PARAMETERS.round_blocks - 1:
                run.refuse(key, action, "audit-status")
            elif run.random.random() < chance:
                drawn.remove(auditor)
                books.proven[miner].append(auditor)
                run.enter(key, action)
                books.auditors[auditor].missed = 0
                run.counts["audits proven"] += 1
                if run.random.random() < 0.2:
                    run.refuse(key, action, "audit-duplicate")
        strangers = [key for key in run.keys if key.public_key not in (*drawn, *books.proven[miner])]
        if strangers and run.random.random() < 0.1:
            stranger = run.random.choice(strangers)
            nothing = ZERO_HASH, (bytes(32),) * 4
            proof = ProveAudit(world.context.task_id, state.round, miner, 0, *nothing)
            run.refuse(stranger, proof, "audit-unassigned")


def fall(run: "History", miner: PublicKey, winner: PublicKey) -> None:
    """Take the bonds of all who vouched for a segment that was slashed."""
    books = run.books.audits
    for auditor in books.proven.pop(miner, []):
        book = books.auditors.pop(auditor, None)
        if book is not None:
            run.oracle.credit(winner, book.bond // 2)
            run.books.burned += book.bond - book.bond // 2
            run.counts["audit bonds fallen"] += 1
    books.assigned.pop(miner, None)


def miss(run: "History", settled: tuple[PublicKey, ...]) -> None:
    """Burn a part of the bonds of those who were silent about what settles."""
    books = run.books.audits
    for miner in settled:
        for auditor in books.assigned.get(miner, []):
            book = books.auditors.get(auditor)
            if book is None:
                continue
            burned = min(book.bond, PARAMETERS.audit_penalty)
            book.bond -= burned
            run.books.burned += burned
            book.missed = min(book.missed + 1, MISSES)
            run.counts["audits missed"] += 1
            if book.missed == MISSES and not book.release:
                book.release = run.world.tip.height + RELEASE_BLOCKS
                run.counts["auditors taken off the list"] += 1


def list_paid(run: "History", settled: tuple[PublicKey, ...]) -> tuple[PublicKey, ...]:
    """Return whose audits a settlement pays, one entry each."""
    return tuple(auditor for miner in settled for auditor in run.books.audits.proven.get(miner, []))


def _make_proof(run: "History", miner: PublicKey, auditor: PublicKey) -> ProveAudit:
    world = run.world
    state, task = world.round, world.context.task_id
    contribution = world.view.get_existing(contribution_key(task, state.round, ContributionKey(miner, 0)))
    challenge = compute_audit_challenge(contribution.challenge, auditor)
    segment = SegmentContext(contribution.seed, state.checkpoint_root)
    digests = world.learning.prove_audit(segment, challenge)
    return ProveAudit(task, state.round, miner, 0, contribution.challenge, digests)
