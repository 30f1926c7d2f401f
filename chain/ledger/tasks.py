"""The tasks that a network trains, each by its name: that of genesis, which tickets come from, and those posted.

Rounds of all tasks begin and end with the same blocks, so that a round's number and start follow from heights alone. A
posted task's first round is the one after the block that posts it, so that nobody trains for it any earlier. It knows
no contribution; how tasks come and go stands in `posted_tasks`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from chain.errors import InvalidTransaction
from chain.genesis import Parameters, TaskSpec
from chain.ledger.context import LedgerContext
from chain.ledger.keys import LIVE_TASKS_KEY, checkpoint_key, funding_key, posted_task_key, task_key
from chain.ledger.learning import SegmentContext
from chain.ledger.records import Contribution, TaskState
from chain.ledger.task_records import LiveTasks, PostedTask
from chain.primitives import Hash
from chain.state.view import StateView


@dataclass(frozen=True, slots=True)
class Task:
    """A task's name, what is trained, and how it was posted; nobody posted that of genesis, which never ends."""

    name: Hash
    spec: TaskSpec
    posted: PostedTask | None


@dataclass(frozen=True, slots=True)
class RoundStart:
    """Where a round began: its height and the checkpoint that its segments start from."""

    height: int
    checkpoint_root: Hash


def make_task_spec(posted: PostedTask) -> TaskSpec:
    """Return what a posted task trains, in the terms of a genesis record."""
    model = posted.terms.model
    return TaskSpec(model.name, posted.terms.program, posted.dataset_root, model.checkpoint_root)


def get_task(context: LedgerContext, view: StateView, name: Hash) -> Task:
    """Return a task by its name, live or closed; raises InvalidTransaction."""
    if name == context.task_id:
        return Task(name, context.task, None)
    posted = view.get(posted_task_key(name))
    if posted is None:
        message = f"found task {name.hex()}, expected {context.task_id.hex()} or one that was posted"
        raise InvalidTransaction("task", message)
    return Task(name, make_task_spec(posted), posted)


def get_live_task(context: LedgerContext, view: StateView, name: Hash) -> Task:
    """Return a task that takes contributions; raises InvalidTransaction."""
    task = get_task(context, view, name)
    if task.posted is not None and view.get(funding_key(name)) is None:
        raise InvalidTransaction("task-closed", f"found task {name.hex()} closed, expected a live one")
    return task


def is_over(task: Task, height: int) -> bool:
    """Say whether a task's last height is reached: it takes no more segments, and closes once nothing of it is held."""
    return task.posted is not None and height >= task.posted.terms.last_height


def get_live_names(view: StateView) -> tuple[Hash, ...]:
    """Return the names of the posted tasks that are live, ascending."""
    return (view.get(LIVE_TASKS_KEY) or LiveTasks(())).names


def iter_live_tasks(context: LedgerContext, view: StateView) -> Iterator[Task]:
    """Yield the tasks that take contributions, that of genesis first, then by name."""
    for name in (context.task_id, *get_live_names(view)):
        yield get_task(context, view, name)


def get_state(view: StateView, task: Task) -> TaskState:
    """Return where a task stands."""
    return view.get_existing(task_key(task.name))


def get_first_round(context: LedgerContext, task: Task) -> int:
    """Return the first round in which a task is trained."""
    return 0 if task.posted is None else compute_first_round(context.genesis.parameters, task.posted.posted_height)


def compute_first_round(parameters: Parameters, posted_height: int) -> int:
    """Return the first round in which a task is trained that was posted at a height: the one after that block."""
    return -(-posted_height // parameters.round_blocks)


def get_round_start(context: LedgerContext, view: StateView, task: Task, round_number: int) -> RoundStart:
    """Return where a task's running round or an earlier one began."""
    state = get_state(view, task)
    assert 0 <= round_number <= state.round, f"found round {round_number}, expected at most {state.round}"
    if round_number == state.round:
        return RoundStart(state.start_height, state.checkpoint_root)
    height = round_number * context.genesis.parameters.round_blocks
    if round_number == get_first_round(context, task):
        return RoundStart(height, task.spec.checkpoint_root)
    return RoundStart(height, view.get_existing(checkpoint_key(task.name, round_number - 1)).checkpoint_root)


def get_segment_context(
    context: LedgerContext, view: StateView, task: Task, round_number: int, contribution: Contribution
) -> SegmentContext:
    """Return what a contribution to a task's running round or an earlier one was computed from."""
    start = get_round_start(context, view, task, round_number)
    return SegmentContext(contribution.seed, start.checkpoint_root, round_number - get_first_round(context, task))


def compute_allowance(parameters: Parameters, task: Task, state: TaskState) -> int:
    """Return the atoms of its pot that a task may spend on its running round.

    That of genesis gets more with every block and spends what it has. A posted one has what it was given until its last
    height: an equal part for each round that is left, so that the price settles at what lasts until then.
    """
    if task.posted is None:
        return state.pot
    blocks_left = task.posted.terms.last_height - state.start_height
    return state.pot // max(1, -(-blocks_left // parameters.round_blocks))
