"""The registry of data sets and models: what may be entered, under which name, and what a model owes for life.

A content root is entered once, whoever offers it. A model names parents and data sets that stand already, so that no
lineage has a cycle; it is no deeper than a payment can follow, and all that it owes of its income fits into it. It
knows no payment. That the lineage is told truthfully it cannot know; copies are `near_duplicates`' business.
"""

from chain.codec import encode
from chain.errors import InvalidTransaction
from chain.genesis import TaskSpec
from chain.hashing import tagged_hash
from chain.ledger.context import BlockScope, LedgerContext
from chain.ledger.economy_records import Dataset, Model, RegisteredContent
from chain.ledger.keys import content_key, dataset_key, model_key
from chain.ledger.spdx import validate_licence
from chain.ledger.titles import validate_title
from chain.primitives import BASIS_POINTS, ZERO_HASH, Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import RegisterDataset, RegisterModel

TREASURY_BP = 100
"""Of each payment, to the treasury: what it costs to pay oneself."""

DEPTH_MAX = 8
"""Models on the way from a model to its first ancestor; a payment visits each."""

GENESIS_ROYALTY_BP = 1_000
"""What models that descend from the network's own owe those who trained it."""

GENESIS_LICENCE = "LicenseRef-Genesis"
"""The licence of what a network starts from; its genesis record tells of none."""

NOBODY = PublicKey(ZERO_HASH)
"""Owns what a network starts from. No secret key belongs to it, so it is owed nothing."""


def compute_dataset_id(chain_id: Hash, owner: PublicKey, terms: RegisterDataset) -> Hash:
    """Return the name of a data set that `owner` registers."""
    return tagged_hash("dataset.registered", chain_id, owner, encode(terms))


def compute_model_id(chain_id: Hash, owner: PublicKey, terms: RegisterModel) -> Hash:
    """Return the name of a model that `owner` registers; one that the network trains has the name of its task."""
    return tagged_hash("model.registered", chain_id, owner, encode(terms))


def validate_dataset_terms(terms: RegisterDataset) -> None:
    """Check what of a data set needs no state; raises InvalidTransaction."""
    validate_licence(terms.licence)
    _validate_basis_points("royalty", terms.royalty_bp)


def validate_model_terms(terms: RegisterModel) -> None:
    """Check what of a model needs no state; raises InvalidTransaction."""
    validate_title("model-name", terms.name)
    validate_licence(terms.licence)
    _validate_basis_points("royalty", TREASURY_BP + terms.royalty_bp)
    _validate_basis_points("income-parts", TREASURY_BP + terms.author_bp)
    if any(one >= other for one, other in zip(terms.datasets, terms.datasets[1:], strict=False)):
        raise InvalidTransaction("model-datasets", "found names out of order or alike, expected them to ascend")


def apply_register_dataset(scope: BlockScope, view: StateView, owner: PublicKey, terms: RegisterDataset) -> None:
    """Enter a data set whose terms hold; raises InvalidTransaction."""
    validate_content(view, terms.content_root)
    name = compute_dataset_id(scope.context.chain_id, owner, terms)
    view.put(content_key(terms.content_root), RegisteredContent(name))
    view.put(dataset_key(name), Dataset(owner, terms, scope.draft.height))


def apply_register_model(scope: BlockScope, view: StateView, owner: PublicKey, terms: RegisterModel) -> None:
    """Enter a model whose terms hold, and its checkpoint; raises InvalidTransaction."""
    validate_content(view, terms.checkpoint_root)
    name = compute_model_id(scope.context.chain_id, owner, terms)
    apply_enter_model(scope, view, owner, name, terms)
    view.put(content_key(terms.checkpoint_root), RegisteredContent(name))


def apply_enter_model(scope: BlockScope, view: StateView, owner: PublicKey, name: Hash, terms: RegisterModel) -> None:
    """Enter a model under a name, but none of its checkpoints; raises InvalidTransaction."""
    parents = [get_model(view, parent) for parent in terms.parents]
    depth = 1 + max((parent.depth for parent in parents), default=-1)
    if depth >= DEPTH_MAX:
        raise InvalidTransaction("model-depth", f"found {depth} ancestors, expected at most {DEPTH_MAX - 1}")
    owed = [parent.terms.royalty_bp for parent in parents]
    owed += [get_dataset(view, dataset).terms.royalty_bp for dataset in terms.datasets]
    _validate_basis_points("income-parts", TREASURY_BP + terms.author_bp + sum(owed))
    view.put(model_key(name), make_model(owner, terms, scope.draft.height, depth))


def apply_genesis_registry(context: LedgerContext, view: StateView) -> None:
    """Enter the network's own task as its first model, so that nobody else can enter its data or its checkpoint."""
    task = context.task
    data = RegisterDataset(task.dataset_root, GENESIS_LICENCE, royalty_bp=0)
    dataset = compute_dataset_id(context.chain_id, NOBODY, data)
    view.put(content_key(task.dataset_root), RegisteredContent(dataset))
    view.put(dataset_key(dataset), Dataset(NOBODY, data, registered_height=0))
    apply_checkpoint(view, context.task_id, task.checkpoint_root)
    view.put(model_key(context.task_id), make_model(NOBODY, _make_genesis_terms(task, dataset), 0, 0))


def apply_checkpoint(view: StateView, model: Hash, checkpoint_root: Hash) -> None:
    """Enter a checkpoint of a model that the network trains, unless its root stands already."""
    if view.get(content_key(checkpoint_root)) is None:
        view.put(content_key(checkpoint_root), RegisteredContent(model))


def make_model(owner: PublicKey, terms: RegisterModel, height: int, depth: int) -> Model:
    """Return a model that nobody has trained or paid yet."""
    return Model(owner, terms, height, depth, units=0, held=0, waiting=0, per_unit=0, remainder=0)


def get_model(view: StateView, name: Hash) -> Model:
    """Return a registered model; raises InvalidTransaction."""
    model = view.get(model_key(name))
    if model is None:
        raise InvalidTransaction("model-unknown", f"found {name.hex()}, expected a registered model")
    return model


def get_dataset(view: StateView, name: Hash) -> Dataset:
    """Return a registered data set; raises InvalidTransaction."""
    dataset = view.get(dataset_key(name))
    if dataset is None:
        raise InvalidTransaction("dataset-unknown", f"found {name.hex()}, expected a registered data set")
    return dataset


def _make_genesis_terms(task: TaskSpec, dataset: Hash) -> RegisterModel:
    return RegisterModel(
        name=task.name,
        # A program's canonical bytes are those of its spec, whose name this is.
        spec_hash=tagged_hash("spec", task.program),
        checkpoint_root=task.checkpoint_root,
        licence=GENESIS_LICENCE,
        licence_price=0,
        royalty_bp=GENESIS_ROYALTY_BP,
        author_bp=0,
        parents=(),
        datasets=(dataset,),
    )


def validate_content(view: StateView, content_root: Hash) -> None:
    """Check that a content root was not entered yet; raises InvalidTransaction."""
    known = view.get(content_key(content_root))
    if known is not None:
        raise InvalidTransaction("content-known", f"found a root registered for {known.name.hex()}, expected a new one")


def _validate_basis_points(rule: str, found: int) -> None:
    if found > BASIS_POINTS:
        raise InvalidTransaction(rule, f"found {found} basis points, expected at most {BASIS_POINTS}")
