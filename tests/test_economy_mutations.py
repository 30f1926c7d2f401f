"""Thousands of altered registrations, payments, transfers and claims, signed by their own sender: none is applied.

Another amount, price or licence that its sender may choose is another valid action; values are drawn out of what is
allowed. What each refusal is called is the rule that was meant.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from chain.hashing import tagged_hash
from chain.primitives import Hash, PublicKey
from chain.transaction import Action, BuyLicence, ClaimIncome, FundTask, PayModel, Sidecar, TransferShares
from ml.dataset import compute_dataset_root
from tests.support.economy import make_dataset, make_model, register_dataset, register_model
from tests.support.hash_training import SEGMENT_MACS
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, LedgerChain, settle_round
from tests.support.posted import make_task, post_task, register_data
from tests.test_contribution_mutations import flip, refuse_resigned

Values = dict[str, Callable[[], object]]


def make_chain() -> tuple[LedgerChain, Hash, Hash]:
    """Return a chain on which Bob holds units that have earned, with the names of a model for sale and a data set."""
    chain = LedgerChain()
    settle_round(chain, ALICE, BOB)
    data = register_dataset(chain, DAVE, make_dataset(1, royalty_bp=4_000))
    model = register_model(chain, DAVE, make_model(2, royalty_bp=3_000, licence_price=10**9))
    chain.mine(chain.sign(CAROL, PayModel(chain.context.task_id, 10**9)))
    return chain, model, data


def refuse_all(chain: LedgerChain, action: Action, values: Values) -> set[str]:
    """Return the rules that refused each altered field; the action itself holds."""
    chain.execute(chain.draft(), chain.sign(BOB, action))
    refusals = refuse_resigned(chain, action, values)
    assert sum(refusals.values()) == 100 * len(values)
    return set(refusals)


def test_no_altered_registration_is_applied() -> None:
    chain, model, data = make_chain()
    rng = random.Random(21)
    known = [make_dataset(1).content_root, make_model(2).checkpoint_root, chain.context.task.checkpoint_root]
    licences = ["", "MIT ", "MIT/X", "OR", "MIT AND"]
    dataset_values: Values = {
        "content_root": lambda: rng.choice(known),
        "licence": lambda: rng.choice(licences),
        "royalty_bp": lambda: rng.randrange(10_001, 2**16),
    }
    assert refuse_all(chain, make_dataset(3), dataset_values) == {"content-known", "licence", "royalty"}
    model_values: Values = {
        "name": lambda: "",
        "checkpoint_root": lambda: rng.choice(known),
        "licence": lambda: rng.choice(licences),
        "royalty_bp": lambda: rng.randrange(9_901, 2**16),
        "author_bp": lambda: rng.randrange(10_000 - 4_000 - 3_000 - 100 + 1, 2**16),
        "parents": lambda: (Hash(flip(rng, model)),),
        "datasets": lambda: rng.choice([(Hash(flip(rng, data)),), (data, data), (Hash(b"\xff" * 32), data)]),
    }
    rules = {"model-name", "content-known", "licence", "royalty", "income-parts", "model-unknown"}
    found = refuse_all(chain, make_model(4, (model,), (data,)), model_values)
    assert found == rules | {"dataset-unknown", "model-datasets"}


def test_no_altered_payment_is_applied() -> None:
    chain, model, _ = make_chain()
    rng, balance = random.Random(22), chain.account(BOB).balance
    assert balance > FUNDS
    other = {"model": lambda: Hash(flip(rng, model))}
    prices: Values = {"price": lambda: rng.choice([0, 10**9 - 1, 10**9 + 1, rng.randrange(balance + 1, 2**64)])}
    found = refuse_all(chain, BuyLicence(model, 10**9), other | prices)
    assert found == {"licence-price", "balance", "model-unknown"}
    amounts: Values = {"amount": lambda: rng.choice([0, rng.randrange(balance + 1, 2**64)])}
    assert refuse_all(chain, PayModel(model, 10**9), other | amounts) == {"amount", "balance", "model-unknown"}


def test_no_altered_transfer_or_claim_of_shares_is_applied() -> None:
    chain, model, _ = make_chain()
    rng, task = random.Random(23), chain.context.task_id
    values: Values = {
        "model": lambda: rng.choice([model, Hash(flip(rng, task))]),
        "recipient": lambda: PublicKey(rng.choice([bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])),
        "units": lambda: rng.choice([0, rng.randrange(SEGMENT_MACS + 1, 2**128)]),
    }
    found = refuse_all(chain, TransferShares(task, DAVE.public_key, SEGMENT_MACS), values)
    assert found == {"model-unknown", "recipient", "units"}
    claims: Values = {"model": lambda: rng.choice([model, Hash(flip(rng, task))])}
    assert refuse_all(chain, ClaimIncome(task), claims) == {"model-unknown", "income-none"}


def test_no_altered_task_or_fund_is_applied() -> None:
    chain, _, _ = make_chain()
    dataset = register_data(chain)
    rng, balance, terms = random.Random(24), chain.account(BOB).balance, make_task(chain, dataset)
    wrong = [chain.content.add(Sidecar(compute_dataset_root(data), b"\x02")) for data in (b"\x01", b"\x02")]
    known = [chain.context.task.checkpoint_root, make_dataset(1).content_root]
    models = [
        *(replace(terms.model, checkpoint_root=root) for root in (*known, tagged_hash("test.nothing"))),
        replace(terms.model, datasets=()),
        replace(terms.model, parents=(chain.context.task_id,)),
        replace(terms.model, author_bp=9_901),
        replace(terms.model, spec_hash=tagged_hash("test.nothing")),
    ]
    values: Values = {
        "program": lambda: flip(rng, terms.program),
        "model": lambda: rng.choice(models),
        "data_hash": lambda: rng.choice(wrong),
        "budget": lambda: rng.choice([rng.randrange(10 * 10**9), rng.randrange(balance + 1, 2**64)]),
        "price": lambda: 0,
        "last_height": lambda: rng.choice([rng.randrange(27), rng.randrange(2**20, 2**64)]),
    }
    found = refuse_all(chain, terms, values)
    assert found == {
        "task-spec", "content-known", "task-start", "task-dataset", "income-parts", "task-data", "task-budget",
        "balance", "task-price", "task-height", "task-checkpoint", "part-root",
    }  # fmt: skip
    name = post_task(chain, terms)
    funds: Values = {
        "task": lambda: rng.choice([chain.context.task_id, Hash(flip(rng, name))]),
        "amount": lambda: rng.choice([rng.randrange(10**9), rng.randrange(balance + 1, 2**64)]),
    }
    assert refuse_all(chain, FundTask(name, 10**9), funds) == {"task", "task-genesis", "fund-amount", "balance"}
