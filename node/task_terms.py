"""What somebody signs to have a model trained: the terms of a PostTask and the block data that go with it.

It makes what the ledger's rules ask for and holds none of them. It signs nothing and sends nothing.
"""

from dataclasses import dataclass

from chain.hashing import tagged_hash
from chain.primitives import Hash
from chain.transaction import PostTask, RegisterModel, Sidecar, compute_sidecar_hash
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.models import build_program
from ml.spec import Spec, encode_spec
from node.dataset_parts import make_part


@dataclass(frozen=True, slots=True)
class Offer:
    """What is paid, in atoms, and until which height; `price` is for 2^40 verified MACs in the first round."""

    budget: int
    price: int
    last_height: int


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """What is fixed of a model for life; `parent` is its name and where it stands, for a child that goes on from there.

    A licence's price is in atoms, the author's part and the children's royalty are in basis points. `sources` are
    data sets that are owed a royalty beside the one that is trained on, as those which that one was made from.
    """

    name: str
    licence: str
    licence_price: int = 0
    author_bp: int = 0
    royalty_bp: int = 0
    parent: tuple[Hash, Hash] | None = None
    sources: tuple[Hash, ...] = ()


def make_post_task(spec: Spec, data: bytes, dataset: Hash, model: ModelTerms, offer: Offer) -> tuple[PostTask, Sidecar]:
    """Return a task of training `spec` on the blob `data`, registered as `dataset`, and its first part as block data.

    Others must have come before. Raises DecodeError when the spec breaks a bound.
    """
    program = encode_spec(spec)
    if model.parent is None:
        start = compute_checkpoint_root(compute_initial_checkpoint(build_program(spec)))
    else:
        start = model.parent[1]
    terms = RegisterModel(
        name=model.name,
        spec_hash=tagged_hash("spec", program),
        checkpoint_root=start,
        licence=model.licence,
        licence_price=model.licence_price,
        royalty_bp=model.royalty_bp,
        author_bp=model.author_bp,
        parents=() if model.parent is None else (model.parent[0],),
        datasets=tuple(sorted({dataset, *model.sources})),
    )
    sidecar = make_part(data, 0)
    data_hash = compute_sidecar_hash(sidecar)
    return PostTask(program, terms, data_hash, offer.budget, offer.price, offer.last_height), sidecar
