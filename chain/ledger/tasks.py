"""The tasks that a network trains, each by its name: that of genesis, which tickets come from.

Rounds of all tasks begin and end with the same blocks, so that a round's number and start follow from heights alone. It
knows no contribution.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from chain.errors import InvalidTransaction
from chain.genesis import TaskSpec
from chain.ledger.context import LedgerContext
from chain.ledger.keys import checkpoint_key, task_key
from chain.ledger.records import TaskState
from chain.primitives import Hash
from chain.state.view import StateView


@dataclass(frozen=True, slots=True)
class Task:
    """A task's name, and what is trained."""

    name: Hash
    spec: TaskSpec


@dataclass(frozen=True, slots=True)
class RoundStart:
    """Where a round began: its height and the checkpoint that its segments start from."""

    height: int
    checkpoint_root: Hash


def get_task(context: LedgerContext, view: StateView, name: Hash) -> Task:
    """Return a task by its name; raises InvalidTransaction."""
    del view
    if name != context.task_id:
        raise InvalidTransaction("task", f"found task {name.hex()}, expected {context.task_id.hex()}")
    return Task(name, context.task)


def iter_live_tasks(context: LedgerContext, view: StateView) -> Iterator[Task]:
    """Yield the tasks that take contributions, that of genesis first."""
    yield get_task(context, view, context.task_id)


def get_state(view: StateView, task: Task) -> TaskState:
    """Return where a task stands."""
    return view.get_existing(task_key(task.name))


def get_round_start(context: LedgerContext, view: StateView, task: Task, round_number: int) -> RoundStart:
    """Return where a task's running round or an earlier one began."""
    state = get_state(view, task)
    assert 0 <= round_number <= state.round, f"found round {round_number}, expected at most {state.round}"
    if round_number == state.round:
        return RoundStart(state.start_height, state.checkpoint_root)
    height = round_number * context.genesis.parameters.round_blocks
    before = view.get(checkpoint_key(task.name, round_number - 1)) if round_number else None
    return RoundStart(height, task.spec.checkpoint_root if before is None else before.checkpoint_root)
