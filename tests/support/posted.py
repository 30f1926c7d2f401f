"""Posted tasks for tests: programs that are numbers, over data that are numbers, trained by hashes."""

from chain.hashing import tagged_hash
from chain.ledger.context import BlockEffects
from chain.ledger.posted_tasks import compute_posted_task_id
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.transaction import PostTask, RegisterDataset, RegisterModel, Sidecar
from ml.dataset import compute_dataset_root
from tests.support.economy import register_dataset
from tests.support.ledger import CAROL, DAVE, LedgerChain

BUDGET = 100 * ATOMS_PER_COIN
PRICE = 1 << 40
"""Atoms for 2^40 MACs: one a MAC."""


def make_task(
    chain: LedgerChain,
    dataset: Hash,
    number: int = 2,
    *,
    data: bytes = b"\x01",
    last_height: int = 45,
    budget: int = BUDGET,
    price: int = PRICE,
    author_bp: int = 0,
) -> PostTask:
    """Return the terms of a task without a parent, its block data at hand."""
    program = number.to_bytes(2, "little")
    model = RegisterModel(
        f"task {number}", tagged_hash("spec", program), tagged_hash("test.checkpoint", program), "Apache-2.0", 0, 500,
        author_bp, (), (dataset,),
    )  # fmt: skip
    data_hash = chain.content.add(Sidecar(compute_dataset_root(data), data))
    return PostTask(program, model, data_hash, budget, price, last_height)


def register_data(chain: LedgerChain, owner: SigningKey = CAROL, data: bytes = b"\x01", royalty_bp: int = 0) -> Hash:
    """Mine a block that enters the data set of these bytes and return its name."""
    return register_dataset(chain, owner, RegisterDataset(compute_dataset_root(data), "CC0-1.0", royalty_bp))


def post_task(chain: LedgerChain, terms: PostTask, poster: SigningKey = DAVE) -> Hash:
    """Mine a block that posts a task, train it from here on, and return its name."""
    chain.mine(chain.sign(poster, terms))
    chain.trained = compute_posted_task_id(chain.context.chain_id, poster.public_key, terms)
    return chain.trained


def mine_round(chain: LedgerChain, *contributors: SigningKey) -> BlockEffects:
    """Run the next whole round of the task that is trained, each contributor with a segment; return its last block."""
    blocks = chain.context.parameters.round_blocks
    chain.mine_to(-(-chain.height // blocks) * blocks)
    start = chain.height
    chain.mine(*(chain.sign(key, chain.commit(key)) for key in contributors))
    chain.mine_to(start + 3)
    chain.mine(*(chain.sign(key, chain.prove(key)) for key in contributors))
    chain.mine_to(start + blocks - 1)
    return chain.mine()
