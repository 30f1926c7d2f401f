"""A round of a random history: who commits, forges, opens, falls silent and is disputed, and what settles of it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.lab.economy import audits
from benchmarks.lab.economy.world import PARAMETERS
from chain.ledger.tasks import get_state
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import CommitContribution
from node.miner.segment import TrainedSegment

if TYPE_CHECKING:
    from benchmarks.lab.economy.history import History


@dataclass(slots=True)
class Round:
    """Who contributes to the running round, and how: segments by miner, and who of them is no more."""

    segments: dict[PublicKey, TrainedSegment] = field(default_factory=dict)
    forged: set[PublicKey] = field(default_factory=set)
    lost: set[PublicKey] = field(default_factory=set)
    posted: dict[tuple[Hash, PublicKey], TrainedSegment] = field(default_factory=dict)
    """Segments of posted tasks."""
    posted_lost: set[tuple[Hash, PublicKey]] = field(default_factory=set)


def commit(run: "History") -> None:
    """Let those who may commit segments: of genesis' miners and of those who have joined since."""
    run.round, height = Round(), run.world.tip.height
    rules = [(key, run.books.miners.find_obstacle(key.public_key, height)) for key in run.keys]
    able = [key for key, rule in rules if rule is None]
    for key, rule in rules:
        if rule is not None and run.has_room() and run.random.random() < 0.1:
            segment = run.world.train(key.public_key, run.world.network)
            run.refuse(key, run.world.commit(segment, run.world.network), rule)
    for key in run.random.sample(able, len(able)):
        if run.random.random() < 0.3 or run.balance_of(key.public_key) < 2 * run.books.deposit:
            continue
        miner, is_forged = key.public_key, run.random.random() < 0.15
        segment = run.world.train(miner, run.world.network, is_forged=is_forged)
        if not _enter_commit(run, key, run.world.commit(segment, run.world.network)):
            continue
        run.round.segments[miner] = segment
        run.round.forged |= {miner} if is_forged else set()
        run.books.lock_deposit(miner, run.books.deposit)
        run.counts["segments committed"] += 1
        run.counts["segments of newcomers"] += miner not in run.world.genesis.miners
    for key in able:
        _commit_posted(run, key)


def _commit_posted(run: "History", key: SigningKey) -> None:
    """Train one of the posted tasks whose rounds run, or none."""
    names = sorted(name for name, pot in run.books.pots.items() if pot.begins <= run.world.tip.height)
    if not names or run.random.random() < 0.4 or run.balance_of(key.public_key) < 4 * run.books.deposit:
        return
    task = run.world.find_task(run.random.choice(names))
    segment = run.world.train(key.public_key, task)
    if _enter_commit(run, key, run.world.commit(segment, task)):
        run.round.posted[task.name, key.public_key] = segment
        run.books.lock_posted(task.name, key.public_key, run.books.deposit)


def _enter_commit(run: "History", key: SigningKey, commit: CommitContribution) -> bool:
    """Enter a commit and say so, or see it refused where votes have left no room for its block data."""
    if not run.has_room():
        run.refuse(key, commit, "block-sidecars")
        return False
    run.enter(key, commit)
    return True


def dispute(run: "History") -> None:
    """Let somebody dispute each forgery, if anybody has a deposit to spare."""
    for miner in sorted(run.round.forged):
        able = [key for key in run.keys if key.public_key != miner and run.has_deposit(key.public_key)]
        if not able:
            continue
        challenger = run.random.choice(able)
        run.enter(challenger, run.world.dispute(miner, run.books.deposit))
        run.books.lock_challenge(miner, challenger.public_key, run.books.deposit)


def prove(run: "History") -> None:
    """Open what was drawn, but for what is forged or left to expire."""
    for miner, segment in run.round.segments.items():
        proof = run.world.prove(miner, segment, run.world.network)
        if proof is None or run.random.random() < 0.1:
            run.round.lost.add(miner)
            run.counts["segments expired"] += 1
        else:
            run.enter(run.find_key(miner), proof)
    for (name, miner), segment in run.round.posted.items():
        proof = run.world.prove(miner, segment, run.world.find_task(name))
        assert proof is not None, "segments of posted tasks are honest here"
        if run.random.random() < 0.1:
            run.round.posted_lost.add((name, miner))
        else:
            run.enter(run.find_key(miner), proof)


def settle(run: "History") -> None:
    """End the round: disputes, what settles and is paid, and posted tasks."""
    disputed = tuple(run.books.challenges)
    for miner in disputed:
        challenger = run.books.challenges[miner][0]
        run.counts["segments slashed"] += run.books.end_challenge(miner)
        audits.fall(run, (run.world.context.task_id, miner), challenger)
    # A forgery that nobody could afford to dispute settles like any other segment.
    settled = tuple(sorted(set(run.round.segments) - run.round.lost - set(disputed)))
    task = run.world.context.task_id
    trained = [(task, miner) for miner in settled]
    audits.miss(run, trained)
    macs, audited = run.world.task.program.segment_macs, audits.list_paid(run, trained)
    run.books.settle(task, settled, macs, audited)
    run.oracle.contents.add(run.world.round.checkpoint_root)
    run.counts["segments settled"] += len(settled)
    height = run.world.tip.height
    for name in [name for name, pot in run.books.pots.items() if pot.begins < height]:
        _settle_posted(run, name, (height, PARAMETERS.round_blocks))
    run.round = Round()


def _settle_posted(run: "History", name: Hash, place: tuple[int, int]) -> None:
    task = run.world.find_task(name)
    trained = sorted(each for each in run.round.posted if each[0] == name and each not in run.round.posted_lost)
    macs = run.world.learning.compute_segment_macs(task.spec)
    audits.miss(run, trained)
    ended = tuple(miner for _, miner in trained), audits.list_paid(run, trained)
    run.counts["posted segments settled"] += len(trained)
    run.counts["tasks closed"] += run.books.settle_posted(name, ended, macs, place)
    run.oracle.contents.add(get_state(run.world.view, task).checkpoint_root)
