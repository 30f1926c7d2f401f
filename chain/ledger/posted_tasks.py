"""Posted tasks: anybody has a model trained beside the network's own, by whoever likes its price.

A posted task is a model in the registry whose name is the task's; its data come as block data. What is checked here
is what everybody will have to do for it: score it, check openings of it, audit it. What becomes of its atoms stands in
`task_pots`.
"""

from chain.codec import encode
from chain.errors import InvalidTransaction
from chain.hashing import tagged_hash
from chain.ledger.accounts import apply_debit
from chain.ledger.context import BlockScope, get_task_state
from chain.ledger.contributions import get_bounded_sidecar
from chain.ledger.dataset_parts import apply_part, is_complete, read_content
from chain.ledger.economy_records import DatasetParts
from chain.ledger.keys import LIVE_TASKS_KEY, dataset_parts_key, funding_key, model_key, posted_task_key, task_key
from chain.ledger.learning import TaskBounds
from chain.ledger.near_duplicates import validate_owed
from chain.ledger.records import TaskState
from chain.ledger.registry import (
    apply_checkpoint,
    apply_enter_model,
    get_dataset,
    get_model,
    validate_content,
    validate_model_terms,
)
from chain.ledger.task_records import LIVE_TASKS_MAX, Funder, Funding, LiveTasks, PostedTask
from chain.ledger.tasks import get_live_names, make_task_spec
from chain.primitives import ATOMS_PER_COIN, Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import AddDatasetPart, PostTask, RegisterModel, Sidecar

BUDGET_MIN = 10 * ATOMS_PER_COIN
"""Atoms of the smallest budget."""

SPAN_MAX = 1_000_000
"""Blocks for which a task may be posted."""

MACS_FACTOR_MAX = 4
"""A segment of a posted task takes at most as many times the multiply-accumulates of one of genesis' task, which
auditors keep up with; how many segments a round may have in all is bounded by the block data of its blocks."""


def compute_posted_task_id(chain_id: Hash, poster: PublicKey, terms: PostTask) -> Hash:
    """Return the name of a posted task."""
    return tagged_hash("task.posted", chain_id, poster, encode(terms))


def validate_task_terms(terms: PostTask) -> None:
    """Check what of a task needs no state; raises InvalidTransaction."""
    model = terms.model
    validate_model_terms(model)
    if terms.budget < BUDGET_MIN:
        raise InvalidTransaction("task-budget", f"found {terms.budget} atoms, expected at least {BUDGET_MIN}")
    if not terms.price:
        raise InvalidTransaction("task-price", "found 0 atoms for 2^40 MACs, expected at least 1")
    if not model.datasets:
        raise InvalidTransaction("task-dataset", "found no data set, expected the one to train on")
    # A program's canonical bytes are those of its spec.
    expected = tagged_hash("spec", terms.program)
    if model.spec_hash != expected:
        raise InvalidTransaction("task-spec", f"found {model.spec_hash.hex()}, expected the program's {expected.hex()}")


def apply_post_task(scope: BlockScope, view: StateView, poster: PublicKey, terms: PostTask) -> None:
    """Enter a task as a model and lock its budget in its pot; raises InvalidTransaction, MissingData."""
    context, height, model = scope.context, scope.draft.height, terms.model
    name, live = compute_posted_task_id(context.chain_id, poster, terms), get_live_names(view)
    if view.get(model_key(name)) is not None:
        raise InvalidTransaction("task-known", f"found {name.hex()} posted already, expected other terms")
    if len(live) >= LIVE_TASKS_MAX:
        raise InvalidTransaction("task-full", f"found {len(live)} live tasks, the most there may be")
    state = _make_first_state(scope, view, terms)
    apply_enter_model(scope, view, poster, name, model)
    if not model.parents:
        validate_content(view, model.checkpoint_root)
        apply_checkpoint(view, name, model.checkpoint_root)
    apply_debit(view, poster, terms.budget)
    shown = get_bounded_sidecar(scope, terms.data_hash)
    dataset = _find_trained(view, model, shown)
    data = _apply_data(scope, view, dataset, terms.data_hash, shown)
    validate_owed(view, dataset, model.datasets)
    posted = PostedTask(poster, terms, get_dataset(view, dataset).terms.content_root, height)
    # Last, because it costs most.
    _validate_program(scope, posted, data)
    view.put(posted_task_key(name), posted)
    view.put(funding_key(name), Funding(share_bp=0, subsidy=0, funders=(Funder(poster, terms.budget),)))
    view.put(LIVE_TASKS_KEY, LiveTasks(tuple(sorted((*live, name)))))
    view.put(task_key(name), state)


def _make_first_state(scope: BlockScope, view: StateView, terms: PostTask) -> TaskState:
    """Return where a task begins: with the round after the running one, whose end it must see."""
    parameters, height = scope.context.parameters, scope.draft.height
    running = get_task_state(scope.context, view)
    start = running.start_height + parameters.round_blocks
    lowest, highest = start + parameters.round_blocks, height + SPAN_MAX
    if not lowest <= terms.last_height <= highest:
        raise InvalidTransaction("task-height", f"found {terms.last_height}, expected {lowest} to {highest}")
    return TaskState(
        round=running.round + 1,
        start_height=start,
        checkpoint_root=_get_start(view, terms),
        heldout_loss=0,
        heldout_correct=0,
        heldout_total=0,
        pot=terms.budget,
        price=terms.price,
        settled_contributions=0,
        held=0,
        contributions=(),
    )


def _get_start(view: StateView, terms: PostTask) -> Hash:
    """Return the checkpoint that a task starts from: its parent's, as it stands, so that every node holds it."""
    found = terms.model.checkpoint_root
    for parent in terms.model.parents:
        state = view.get(task_key(parent))
        if state is None or state.checkpoint_root == get_model(view, parent).terms.checkpoint_root:
            message = f"found {parent.hex()}, expected a model that this chain has trained"
            raise InvalidTransaction("task-parent", message)
        if state.checkpoint_root != found:
            raise InvalidTransaction("task-start", f"found {found.hex()}, expected {state.checkpoint_root.hex()}")
    return found


def _find_trained(view: StateView, model: RegisterModel, shown: Sidecar) -> Hash:
    """Return of which of a model's data sets block data say they are a part; the others are owed beside it."""
    root = shown.output_roots[:32]
    for name in model.datasets:
        if get_dataset(view, name).terms.content_root == root:
            return name
    message = f"found data of root {root.hex()}, expected that of one of the model's data sets"
    raise InvalidTransaction("task-data", message)


def _apply_data(scope: BlockScope, view: StateView, dataset: Hash, data_hash: Hash, shown: Sidecar) -> DatasetParts:
    """Return the content to train on, which the block data beside the task complete where they are all of it."""
    found, is_whole = view.get(dataset_parts_key(dataset)), len(shown.output_roots) == 32
    if found is None and is_whole:
        return apply_part(scope, view, AddDatasetPart(dataset, len(shown.delta), 0, data_hash), shown)
    if found is None or not is_complete(found):
        count = 0 if found is None else len(found.parts)
        message = f"found {count} parts of data set {dataset.hex()}, expected all: its content has not come yet"
        raise InvalidTransaction("dataset-incomplete", message)
    if all(part.sidecar_hash != data_hash for part in found.parts):
        message = f"found block data {data_hash.hex()}, expected a part of data set {dataset.hex()}"
        raise InvalidTransaction("task-data", message)
    return found


def _validate_program(scope: BlockScope, posted: PostedTask, data: DatasetParts) -> None:
    """Check that the task can be trained, proven and audited on its data."""
    macs_max = MACS_FACTOR_MAX * scope.learning.compute_segment_macs(scope.context.task)
    bounds = TaskBounds(macs_max, scope.context.parameters.sidecar_bytes_max)
    is_new = not posted.terms.model.parents
    scope.learning.validate_task(make_task_spec(posted), lambda: read_content(scope, data), bounds, is_new=is_new)
