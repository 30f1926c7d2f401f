"""The life of contributions within a round: commits, drawn challenges, proofs, and the window that closes.

Heights follow from the round's start s: commits stand in blocks s+1 to s+commit_blocks; block h+c draws the places of a
commit in block h; openings stand in the next w blocks; what is unproven after them expires. It knows no tensor.
"""

from collections.abc import Iterator
from dataclasses import replace

from chain.codec import encode
from chain.errors import InvalidProof, InvalidTransaction
from chain.genesis import compute_segment_seed
from chain.hashing import tagged_hash
from chain.ledger.accounts import apply_burn, apply_debit
from chain.ledger.audits import apply_assignment
from chain.ledger.context import (
    BlockScope,
    ContributionChanged,
    Event,
    LedgerContext,
    get_task_state,
)
from chain.ledger.keys import beacon_key, contribution_key, miner_key, task_key
from chain.ledger.records import Contribution, ContributionKey, TaskState
from chain.ledger.tasks import Task, get_live_task, get_segment_context, get_state, is_over, iter_live_tasks
from chain.ledger.transition import ContributionEvent, ContributionStatus, compute_next_status
from chain.primitives import ZERO_HASH, Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import CommitContribution, ProveContribution, Sidecar


def compute_challenge(beacon: Hash, contribution: Contribution) -> Hash:
    """Return the randomness that draws a contribution's places, from the beacon `challenge_delay` blocks after it."""
    return tagged_hash("challenge", beacon, contribution.seed, contribution.trace_root)


def find_segment_seed(
    context: LedgerContext, view: StateView, miner: PublicKey, commit: CommitContribution
) -> Hash | None:
    """Return the seed of a committed segment on a state's branch, None where that has no such anchor at hand."""
    record = view.get(beacon_key(commit.anchor_height))
    if record is None or record.height != commit.anchor_height:
        return None
    return compute_segment_seed(context.chain_id, commit.task, commit.round, record.beacon, miner, commit.index)


def apply_commit(scope: BlockScope, view: StateView, miner: PublicKey, commit: CommitContribution) -> tuple[Event, ...]:
    """Lock the deposit and enter a contribution; raises InvalidTransaction, MissingData."""
    context, height = scope.context, scope.draft.height
    task = get_live_task(context, view, commit.task)
    state, key = get_state(view, task), ContributionKey(miner, commit.index)
    if is_over(task, state.start_height):
        # Else whoever disputes a segment of each round would keep from its funders what is left in the pot.
        message = f"found a round that starts at height {state.start_height}, expected one below the task's last height"
        raise InvalidTransaction("task-over", message)
    validate_commit_place(scope, view, state, key, commit)
    seed = find_segment_seed(context, view, miner, commit)
    assert seed is not None, "the genesis check keeps every allowed anchor within the ring"
    if commit.seed != seed:
        raise InvalidTransaction("commit-seed", f"found a segment of seed {commit.seed.hex()}, expected {seed.hex()}")
    contribution = Contribution(
        status_code=int(ContributionStatus.COMMITTED),
        commit_height=height,
        anchor_height=commit.anchor_height,
        seed=seed,
        trace_root=commit.trace_root,
        delta_root=commit.delta_root,
        sidecar_hash=commit.sidecar_hash,
        challenge=ZERO_HASH,
        deposit=context.parameters.deposit,
        macs=scope.learning.compute_segment_macs(task.spec),
        reward=0,
        disputes=0,
    )
    apply_debit(view, miner, contribution.deposit)
    _validate_sidecar(scope, task, state, commit)
    ordered = sorted([*state.contributions, key], key=lambda entry: (entry.miner, entry.index))
    view.put(task_key(task.name), replace(state, contributions=tuple(ordered)))
    view.put(contribution_key(task.name, state.round, key), contribution)
    return (ContributionChanged(task.name, state.round, key, ContributionStatus.COMMITTED, contribution.deposit),)


def validate_commit_place(
    scope: BlockScope, view: StateView, state: TaskState, key: ContributionKey, commit: CommitContribution
) -> None:
    """Check a commit's round, window, anchor, miner and index by where its task stands; raises InvalidTransaction."""
    context, height = scope.context, scope.draft.height
    parameters = context.parameters
    _validate_round(state, commit)
    window = (state.start_height + 1, state.start_height + parameters.commit_blocks)
    if not window[0] <= height <= window[1]:
        raise InvalidTransaction("commit-window", f"found height {height}, expected {window[0]} to {window[1]}")
    if problem := find_segment_problem(context, view, scope.draft.height, key, commit.anchor_height):
        raise InvalidTransaction(*problem)
    if key in state.contributions:
        raise InvalidTransaction("commit-duplicate", f"found segment {key.index} twice, expected it once a round")
    if len(state.contributions) >= parameters.contributions_per_round:
        raise InvalidTransaction("round-full", f"found {len(state.contributions)} contributions, the most there may be")


def find_bond_problem(context: LedgerContext, view: StateView, key: PublicKey) -> tuple[str, str] | None:
    """Return (rule, message) when a key has no bond that it could lose."""
    miner, expected = view.get(miner_key(key)), context.parameters.bond
    if miner is None:
        return "segment-miner", f"found {key.hex()}, expected a key that has posted a miner's bond"
    # A bond is posted and burned whole; one that stands stays good when more is asked of new ones.
    return ("segment-bond", f"found a bond of 0 atoms, expected {expected}") if miner.bond == 0 < expected else None


def find_segment_problem(
    context: LedgerContext, view: StateView, height: int, key: ContributionKey, anchor_height: int
) -> tuple[str, str] | None:
    """Return (rule, message) when no block at `height` may name a segment: its miner, index or anchor is wrong.

    A miner without its bond starts nothing: a key that costs nothing could be ground, and one that has nothing to lose
    could show its tickets with two contents. One that has given notice starts nothing that its bond would not outlive.
    """
    if problem := find_bond_problem(context, view, key.miner):
        return problem
    miner = view.get_existing(miner_key(key.miner))
    # Whoever makes a block knows its beacon before its transactions: a bond in it is older than the next beacon alone.
    first_anchor = miner.registered_height + 1 if miner.registered_height else 0
    oldest = max(get_task_state(context, view).start_height - 1, first_anchor)
    if miner.release_height:
        return "segment-notice", f"found a bond that is free at height {miner.release_height}, expected no notice"
    if key.index >= context.parameters.segments_per_round:
        return "segment-index", f"found index {key.index}, expected one below {context.parameters.segments_per_round}"
    if not oldest <= anchor_height < height:
        return "segment-anchor", f"found anchor {anchor_height}, expected {oldest} to {height - 1}"
    return None


def apply_prove(scope: BlockScope, view: StateView, miner: PublicKey, prove: ProveContribution) -> tuple[Event, ...]:
    """Mark a contribution proven when its openings hold; raises InvalidTransaction, MissingData."""
    task = get_live_task(scope.context, view, prove.task)
    state, key = get_state(view, task), ContributionKey(miner, prove.index)
    _validate_round(state, prove)
    contribution = view.get(contribution_key(task.name, state.round, key))
    if contribution is None:
        raise InvalidTransaction("prove-unknown", f"found no contribution {prove.index} of {miner.hex()} this round")
    following = compute_next_status(contribution.status, ContributionEvent.OPENINGS_VERIFIED)
    sidecar = scope.content.get_sidecar(contribution.sidecar_hash)
    segment = get_segment_context(scope.context, view, task, state.round, contribution)
    try:
        scope.learning.verify_openings(task.spec, segment, sidecar, contribution.challenge, prove.openings)
    except InvalidProof as error:
        raise InvalidTransaction(error.rule, f"an opening is refused: {error}") from error
    view.put(contribution_key(task.name, state.round, key), replace(contribution, status_code=int(following)))
    return (ContributionChanged(task.name, state.round, key, following, 0),)


def apply_deadlines(scope: BlockScope, view: StateView) -> tuple[Event, ...]:
    """Draw the challenges and auditors that are due at the end of this block, and expire what is still unproven."""
    events: list[Event] = []
    for task in iter_live_tasks(scope.context, view):
        events += _apply_task_deadlines(scope, view, task)
    return tuple(events)


def _apply_task_deadlines(scope: BlockScope, view: StateView, task: Task) -> Iterator[Event]:
    state = get_state(view, task)
    for key, contribution in iter_contributions(view, task.name, state):
        event = _find_deadline(scope, contribution)
        if event is None:
            continue
        following = compute_next_status(contribution.status, event)
        is_expired = following is ContributionStatus.EXPIRED
        burned = contribution.deposit if is_expired else 0
        challenge = contribution.challenge if is_expired else compute_challenge(scope.draft.beacon, contribution)
        after = replace(
            contribution,
            status_code=int(following),
            challenge=challenge,
            deposit=contribution.deposit - burned,
        )
        view.put(contribution_key(task.name, state.round, key), after)
        apply_burn(view, burned)
        yield ContributionChanged(task.name, state.round, key, following, burned)
        if event is ContributionEvent.CHALLENGE_DRAWN:
            yield from apply_assignment(scope, view, task, key, after)


def iter_contributions(view: StateView, task: Hash, state: TaskState) -> Iterator[tuple[ContributionKey, Contribution]]:
    """Yield the contributions of a task's running round by miner and index."""
    for key in state.contributions:
        yield key, view.get_existing(contribution_key(task, state.round, key))


def _find_deadline(scope: BlockScope, contribution: Contribution) -> ContributionEvent | None:
    age, parameters = scope.draft.height - contribution.commit_height, scope.context.parameters
    match contribution.status:
        case ContributionStatus.COMMITTED if age >= parameters.challenge_delay:
            return ContributionEvent.CHALLENGE_DRAWN
        case ContributionStatus.CHALLENGED if age >= parameters.challenge_delay + parameters.proof_window:
            return ContributionEvent.PROOF_WINDOW_CLOSED
    return None


def _validate_round(state: TaskState, action: CommitContribution | ProveContribution) -> None:
    if action.round != state.round:
        raise InvalidTransaction("round", f"found round {action.round}, expected {state.round}")


def _validate_sidecar(scope: BlockScope, task: Task, state: TaskState, commit: CommitContribution) -> None:
    sidecar = get_bounded_sidecar(scope, commit.sidecar_hash)
    scope.learning.validate_sidecar(task.spec, state.checkpoint_root, commit, sidecar)


def get_bounded_sidecar(scope: BlockScope, name: Hash) -> Sidecar:
    """Return block data of a size that the network allows; raises InvalidTransaction, MissingData."""
    sidecar = scope.content.get_sidecar(name)
    size_bytes, size_bytes_max = len(encode(sidecar)), scope.context.parameters.sidecar_bytes_max
    if size_bytes > size_bytes_max:
        raise InvalidTransaction("sidecar-size", f"found {size_bytes} bytes, expected at most {size_bytes_max}")
    return sidecar
