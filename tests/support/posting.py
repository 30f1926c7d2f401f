"""A small task that a live node's network is asked to train: a narrow classifier of the digits."""

from dataclasses import replace

from chain.ledger.keys import model_key
from chain.ledger.posted_tasks import compute_posted_task_id
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.transaction import PostTask, Sidecar
from ml.dataset import load_digits
from ml.spec import DIGITS, Mlp
from node.datasets import find_blob
from node.mempool import AddResult
from node.task_terms import ModelTerms, Offer, make_post_task
from node.wallet import sign_action
from tests.support.live_node import LiveNode

SPEC = replace(
    DIGITS,
    model=Mlp((64, 32, 10)),
    segment_steps=16,
    warmup_steps=1,
    decay_steps=4,
    warmup_rounds=2,
    decay_rounds=6,
    init_seed=7,
)
BUDGET = 50 * ATOMS_PER_COIN


def make_digits_task(live: LiveNode, last_height: int = 90, budget: int = BUDGET) -> tuple[PostTask, Sidecar]:
    """Return a task on the data set of genesis, and its block data."""
    chain = live.node.parts.chain
    dataset = chain.view().get_existing(model_key(chain.ledger_context.task_id)).terms.datasets[0]
    return make_task_on(read_digits(), dataset, Offer(budget, 1 << 44, last_height))


def make_task_on(
    blob: bytes, dataset: Hash, offer: Offer, seed: int = SPEC.init_seed, sources: tuple[Hash, ...] = ()
) -> tuple[PostTask, Sidecar]:
    """Return a task on a registered blob of digits, its first weights by a seed, and its block data."""
    model = ModelTerms("narrow digits", "Apache-2.0", author_bp=1_000, sources=sources)
    return make_post_task(replace(SPEC, init_seed=seed), blob, dataset, model, offer)


def read_digits() -> bytes:
    """Return the blob of the digits."""
    return find_blob(load_digits(DIGITS.heldout).root)


async def post(live: LiveNode, poster: SigningKey, terms: PostTask, sidecar: Sidecar) -> Hash:
    """Offer a task with its data and mine it; return its name."""
    parts = live.node.parts
    chain_id, nonce = parts.chain.ledger_context.chain_id, parts.gate.compute_next_nonce(poster.public_key)
    transaction = sign_action(chain_id, poster, nonce, 0, terms)
    assert await parts.gate.admit(transaction, sidecar) is AddResult.ADDED
    await live.mine(1)
    return compute_posted_task_id(chain_id, poster.public_key, terms)
