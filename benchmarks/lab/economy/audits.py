"""Auditors in a random history: who enters and leaves, who was drawn, who proves, is silent, or vouches falsely.

The draw is the ledger's; that it is among those whom the books know to stand, and of as many as there have to be, is
compared. Everything that an audit moves is told here again, from the books alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.lab.economy.world import PARAMETERS, Broken
from chain.audit import ProveAudit, RegisterAuditor, RetireAuditor
from chain.ledger.audits import compute_audit_challenge
from chain.ledger.keys import audits_key, contribution_key
from chain.ledger.records import Contribution, ContributionKey
from chain.ledger.tasks import get_segment_context, get_state
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.signature import SigningKey

if TYPE_CHECKING:
    from benchmarks.lab.economy.history import History

WHOLE = 10_000
MISSES = 3
SEATS = 64
STEP = 8
DRAWN = PARAMETERS.commit_blocks + PARAMETERS.challenge_delay
"""Blocks of a round after which its auditors are drawn: no sooner is anybody put off a seat."""
RELEASE_BLOCKS = PARAMETERS.round_blocks + 5 * PARAMETERS.dispute_window


Trained = tuple[Hash, PublicKey]
"""A segment of the running round: its task and its miner."""


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
    assigned: dict[Trained, list[PublicKey]] = field(default_factory=dict)
    """By segment: who was drawn for it and has not proven it."""
    proven: dict[Trained, list[PublicKey]] = field(default_factory=dict)

    @property
    def bonds(self) -> int:
        """Atoms of all bonds."""
        return sum(auditor.bond for auditor in self.auditors.values())

    def list_standing(self) -> list[AuditorBook]:
        """Return the auditors who have a seat, in the order in which they entered."""
        return [auditor for auditor in self.auditors.values() if not auditor.release]


def register_crowd(run: "History") -> None:
    """Let the crowd take all seats before anybody else does."""
    for key in run.crowd:
        _enter(run, key, PARAMETERS.auditor_bond)


def register(run: "History") -> None:
    """Enter an auditor or add to its bond, where it may; take the least one's seat where all are taken."""
    key, bond = run.random.choice(run.keys), PARAMETERS.auditor_bond
    found, standing = run.books.audits.auditors.get(key.public_key), run.books.audits.list_standing()
    amount = run.random.choice((bond, bond, bond + 1, 2 * bond))
    if found is not None and found.release:
        run.refuse(key, RegisterAuditor(bond), "auditor-held")
    elif run.has_claimed(key.public_key) or run.balance_of(key.public_key) < 4 * bond:
        return
    elif run.random.random() < 0.1:
        run.refuse(key, RegisterAuditor(0), "auditors-full" if _is_full(run) and not found else "auditor-bond")
    elif found is not None and run.world.place < DRAWN:
        run.refuse(key, RegisterAuditor(1), "auditors-drawn")
    elif found is not None:
        _enter(run, key, run.random.randrange(1, bond))
    elif not _is_full(run):
        _enter(run, key, amount)
    else:
        least = min(auditor.bond for auditor in standing)
        if amount < max(bond, least + max(1, least // STEP)):
            run.refuse(key, RegisterAuditor(amount), "auditors-full")
        elif run.world.place < DRAWN:
            run.refuse(key, RegisterAuditor(amount), "auditors-drawn")
        else:
            loser = [auditor for auditor in standing if auditor.bond == least][-1]
            loser.release = run.world.tip.height + 1 + RELEASE_BLOCKS
            run.counts["seats taken"] += 1
            _enter(run, key, amount)


def _is_full(run: "History") -> bool:
    return len(run.books.audits.list_standing()) == SEATS


def _enter(run: "History", key: SigningKey, amount: int) -> None:
    books, height = run.books.audits.auditors, run.world.tip.height + 1
    run.oracle.credit(key.public_key, -amount)
    book = books.setdefault(key.public_key, AuditorBook(0, height))
    book.bond, book.since = book.bond + amount, height
    run.enter(key, RegisterAuditor(amount))


def retire(run: "History") -> None:
    """Leave, take the bond back, or try to too early or without one."""
    key, height = run.random.choice((*run.keys, *run.crowd[:1])), run.world.tip.height + 1
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
    for trained in _list_trained(run):
        task, miner = trained
        commit_height = _get_contribution(run, trained).commit_height
        able = {
            auditor
            for auditor, book in books.auditors.items()
            if not book.release and book.bond and book.since < commit_height and auditor != miner
        }
        found = world.view.get(audits_key(task, world.round.round, ContributionKey(miner, 0)))
        drawn = [] if found is None else [audit.auditor for audit in found.audits]
        whole = PARAMETERS.audit_bp // WHOLE
        if not set(drawn) <= able or len(drawn) not in {min(len(able), whole), min(len(able), whole + 1)}:
            raise Broken(f"drawn: found {len(drawn)} of {len(able)} auditors who may be, or others")
        books.assigned[trained], books.proven[trained] = drawn, []
        run.counts["audits assigned"] += len(drawn)


def prove(run: "History", chance: float) -> None:
    """Prove each open audit with a chance, of forged segments too: whoever does so vouches falsely."""
    books, world = run.books.audits, run.world
    lost = {(world.context.task_id, miner) for miner in run.round.lost} | run.round.posted_lost
    for trained, drawn in books.assigned.items():
        for auditor in tuple(drawn):
            key = run.find_key(auditor)
            action = _make_proof(run, trained, auditor)
            if trained in lost and world.place == PARAMETERS.round_blocks - 1:
                run.refuse(key, action, "audit-status")
            elif run.random.random() < chance:
                drawn.remove(auditor)
                books.proven[trained].append(auditor)
                run.enter(key, action)
                books.auditors[auditor].missed = 0
                run.counts["audits proven"] += 1
                if run.random.random() < 0.2:
                    run.refuse(key, action, "audit-duplicate")
        strangers = [key for key in run.keys if key.public_key not in (*drawn, *books.proven[trained])]
        if strangers and run.random.random() < 0.1:
            stranger = run.random.choice(strangers)
            nothing = ZERO_HASH, (bytes(32),) * 4
            proof = ProveAudit(trained[0], world.round.round, trained[1], 0, *nothing)
            run.refuse(stranger, proof, "audit-unassigned")


def fall(run: "History", trained: Trained, winner: PublicKey) -> None:
    """Take what all answer with who vouched for a segment that was slashed, and their seats."""
    books = run.books.audits
    for auditor in books.proven.pop(trained, []):
        book = books.auditors.get(auditor)
        if book is not None:
            lost = min(book.bond, PARAMETERS.auditor_bond)
            run.oracle.credit(winner, lost // 2)
            run.books.burned += lost - lost // 2
            book.bond -= lost
            book.release = book.release or run.world.tip.height + RELEASE_BLOCKS
            if not book.bond:
                del books.auditors[auditor]
            run.counts["audit bonds fallen"] += 1
    books.assigned.pop(trained, None)


def miss(run: "History", settled: Iterable[Trained]) -> None:
    """Burn a part of the bonds of those who were silent about what settles."""
    books = run.books.audits
    for trained in settled:
        for auditor in books.assigned.get(trained, []):
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


def list_paid(run: "History", settled: Iterable[Trained]) -> tuple[PublicKey, ...]:
    """Return whose audits a settlement pays, one entry each."""
    return tuple(auditor for trained in settled for auditor in run.books.audits.proven.get(trained, []))


def _list_trained(run: "History") -> list[Trained]:
    return [*((run.world.context.task_id, miner) for miner in run.round.segments), *run.round.posted]


def _get_contribution(run: "History", trained: Trained) -> Contribution:
    task, miner = trained
    key = contribution_key(task, run.world.round.round, ContributionKey(miner, 0))
    return run.world.view.get_existing(key)


def _make_proof(run: "History", trained: Trained, auditor: PublicKey) -> ProveAudit:
    world, contribution = run.world, _get_contribution(run, trained)
    task = world.find_task(trained[0])
    state = get_state(world.view, task)
    challenge = compute_audit_challenge(contribution.challenge, auditor)
    segment = get_segment_context(world.context, world.view, task, state.round, contribution)
    digests = world.learning.prove_audit(task.spec, segment, challenge)
    return ProveAudit(task.name, state.round, trained[1], 0, contribution.challenge, digests)
