"""Registrations for tests: data sets and models whose contents are named by numbers."""

from chain.hashing import tagged_hash
from chain.ledger.economy_records import EMPTY_SHARES, Model, Shares
from chain.ledger.keys import model_key, shares_key
from chain.ledger.registry import compute_dataset_id, compute_model_id
from chain.ledger.shares import compute_touched
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import RegisterDataset, RegisterModel
from tests.support.ledger import LedgerChain


def compute_content_root(number: int) -> Hash:
    """Return the root of the content `number`."""
    return tagged_hash("test.content", number.to_bytes(4, "little"))


def make_dataset(number: int, royalty_bp: int = 0) -> RegisterDataset:
    """Return the terms of a data set."""
    return RegisterDataset(compute_content_root(number), "CC-BY-4.0", royalty_bp)


def make_model(
    number: int,
    parents: tuple[Hash, ...] = (),
    datasets: tuple[Hash, ...] = (),
    royalty_bp: int = 0,
    author_bp: int = 0,
    licence_price: int = 0,
) -> RegisterModel:
    """Return the terms of a model."""
    spec_hash, root = tagged_hash("test.spec"), compute_content_root(number)
    ordered = tuple(sorted(datasets))
    return RegisterModel(
        f"model {number}", spec_hash, root, "Apache-2.0", licence_price, royalty_bp, author_bp, parents, ordered
    )


def register_dataset(chain: LedgerChain, owner: SigningKey, terms: RegisterDataset) -> Hash:
    """Mine a block that enters a data set and return its name."""
    chain.mine(chain.sign(owner, terms))
    return compute_dataset_id(chain.context.chain_id, owner.public_key, terms)


def register_model(chain: LedgerChain, owner: SigningKey, terms: RegisterModel) -> Hash:
    """Mine a block that enters a model and return its name."""
    chain.mine(chain.sign(owner, terms))
    return compute_model_id(chain.context.chain_id, owner.public_key, terms)


def get_model(chain: LedgerChain, name: Hash) -> Model:
    """Return a model at the head."""
    return chain.view.get_existing(model_key(name))


def get_shares(chain: LedgerChain, name: Hash, holder: PublicKey) -> Shares:
    """Return an account's shares at the head, with all that they have earned."""
    shares = chain.view.get(shares_key(name, holder)) or EMPTY_SHARES
    return compute_touched(get_model(chain, name), shares)
