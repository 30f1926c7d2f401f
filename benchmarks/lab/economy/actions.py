"""The actions of a random history: each is drawn, judged by the books, and entered or refused.

A rule that is expected to refuse is named here from the books alone. Amounts, parts and contents are drawn so that
bounds are met often: parts that sum to more than the whole, a content that is known, one unit too many.
"""

from benchmarks.lab.economy import audits, miners, votes
from benchmarks.lab.economy.copies import bring_copy, register_copy
from benchmarks.lab.economy.history import Claim, History
from benchmarks.lab.economy.oracle import TAX_BP, WHOLE_BP, OracleModel
from benchmarks.lab.economy.posting import fund_task, post_task
from chain.hashing import tagged_hash
from chain.ledger.registry import compute_dataset_id, compute_model_id
from chain.primitives import Hash
from chain.transaction import (
    BuyLicence,
    ClaimIncome,
    PayModel,
    RegisterDataset,
    RegisterModel,
    Transfer,
    TransferShares,
)

BASIS_POINTS = (0, 0, 1, 10, 333, 333, 1_000, 2_500, 9_900, 10_000)
PRICES = (0, 1, 99, 12_345, 10**8)
CONTENTS = 400
"""Few enough that one comes twice now and then."""
ANCESTORS_MAX = 7
RESERVE = 20 * 10**9
"""Atoms that no draw spends: fees and deposits must not fail."""


def register_dataset(run: History) -> None:
    """Enter a data set, or one whose content stands already."""
    owner, content = run.random.choice(run.keys), _draw_content(run)
    terms = RegisterDataset(content, "CC-BY-4.0", run.random.choice(BASIS_POINTS))
    if content in run.oracle.contents:
        run.refuse(owner, terms, "content-known")
        return
    name = compute_dataset_id(run.world.context.chain_id, owner.public_key, terms)
    run.oracle.contents.add(content)
    run.oracle.datasets[name] = (owner.public_key, terms.royalty_bp)
    run.enter(owner, terms)


def register_model(run: History) -> None:
    """Enter a model of random lineage and parts; many owe more than there is, or lie too deep."""
    owner, terms = run.random.choice(run.keys), _draw_terms(run)
    parent = terms.parents[0] if terms.parents else None
    model = OracleModel(
        owner.public_key, terms.author_bp, terms.royalty_bp, terms.licence_price, parent, terms.datasets
    )
    model.depth = 0 if parent is None else run.oracle.models[parent].depth + 1
    if max(terms.royalty_bp, terms.author_bp) > WHOLE_BP - TAX_BP:
        run.refuse(owner, terms, "royalty" if terms.royalty_bp > WHOLE_BP - TAX_BP else "income-parts")
    elif terms.checkpoint_root in run.oracle.contents:
        run.refuse(owner, terms, "content-known")
    elif model.depth > ANCESTORS_MAX:
        run.refuse(owner, terms, "model-depth")
    elif sum(run.oracle.list_owed_bp(model)) > WHOLE_BP:
        run.refuse(owner, terms, "income-parts")
    else:
        run.oracle.contents.add(terms.checkpoint_root)
        run.oracle.models[compute_model_id(run.world.context.chain_id, owner.public_key, terms)] = model
        run.enter(owner, terms)


def pay(run: History) -> None:
    """Pay a model, or more than the payer has, or nothing."""
    payer, name = run.random.choice(run.keys), _draw_model(run)
    spendable = run.balance_of(payer.public_key) - RESERVE
    kind = run.random.random()
    if kind < 0.03:
        run.refuse(payer, PayModel(name, 0), "amount")
    elif kind < 0.06 and not run.has_claimed(payer.public_key):
        run.refuse(payer, PayModel(name, run.balance_of(payer.public_key) + 1), "balance")
    elif kind < 0.08:
        run.refuse(payer, PayModel(Hash(run.random.randbytes(32)), 1), "model-unknown")
    elif spendable > 0:
        amount = run.random.choice((1, 99, 100, 10_001, run.random.randrange(1, 10**9)))
        run.oracle.pay(payer.public_key, name, min(amount, spendable))
        run.enter(payer, PayModel(name, min(amount, spendable)))


def buy(run: History) -> None:
    """Buy a licence, a second one, or one that is not sold; at the price or beside it."""
    buyer, name = run.random.choice(run.keys), _draw_model(run)
    price, mark = run.oracle.models[name].price, (name, buyer.public_key)
    if not price:
        run.refuse(buyer, BuyLicence(name, 1), "licence-free")
    elif run.random.random() < 0.1:
        run.refuse(buyer, BuyLicence(name, price + 1), "licence-price")
    elif mark in run.oracle.licences:
        run.refuse(buyer, BuyLicence(name, price), "licence-held")
    elif run.balance_of(buyer.public_key) > price + RESERVE:
        run.oracle.licences.add(mark)
        run.oracle.pay(buyer.public_key, name, price)
        run.enter(buyer, BuyLicence(name, price))


def transfer_shares(run: History) -> None:
    """Move units of the network's model, some or all of them, or one more than there are."""
    task = run.world.context.task_id
    units_of = run.oracle.models[task].units
    sender, recipient = run.random.choice(run.keys), run.random.choice(run.keys)
    held = units_of.get(sender.public_key, 0)
    units = run.random.choice((1, held // 3, held // 2, held, held + 1)) or 1
    action = TransferShares(task, recipient.public_key, units)
    if units > held:
        run.refuse(sender, action, "units")
        return
    run.oracle.models[task].move(sender.public_key, recipient.public_key, units)
    run.enter(sender, action)


def claim(run: History) -> None:
    """Claim what units have earned, where that is plainly something or plainly nothing; once an account and block."""
    holder, task = run.random.choice(run.keys), run.world.context.task_id
    if run.has_claimed(holder.public_key):
        return
    model = run.oracle.models[task]
    owed = model.owed.get(holder.public_key)
    if not owed or owed < 0.5:
        run.refuse(holder, ClaimIncome(task), "income-none")
    elif owed > 2:
        run.claims.append(Claim(holder.public_key, owed))
        run.enter(holder, ClaimIncome(task))


def send_coins(run: History) -> None:
    """Move coins between accounts."""
    sender, recipient = run.random.choice(run.keys), run.random.choice(run.keys)
    spendable = run.balance_of(sender.public_key) - RESERVE
    if spendable > 0:
        amount = run.random.randrange(1, spendable // 4 + 2)
        run.oracle.credit(sender.public_key, -amount)
        run.oracle.credit(recipient.public_key, amount)
        run.enter(sender, Transfer(recipient.public_key, amount))


ACTIONS = {
    "payments": (6, pay),
    "licences": (4, buy),
    "share transfers": (4, transfer_shares),
    "claims": (4, claim),
    "transfers": (2, send_coins),
    "models": (2, register_model),
    "data sets": (1, register_dataset),
    "copies": (1, register_copy),
    "contents": (1, bring_copy),
    "tasks": (2, post_task),
    "funds": (2, fund_task),
    "miners joining": (2, miners.post),
    "miners leaving": (2, miners.withdraw),
    "equivocations": (1, miners.report),
    "auditors entering": (2, audits.register),
    "auditors leaving": (1, audits.retire),
    "stakes locked": (2, votes.lock),
    "stakes leaving": (2, votes.unlock),
    "proposals": (4, votes.propose),
    "votes": (12, votes.vote),
}
"""By name: how often one is drawn beside the others, and what it does."""


def act(run: History) -> None:
    """Draw an action and carry it out; raises Broken."""
    names, weights = list(ACTIONS), [weight for weight, _ in ACTIONS.values()]
    name = run.random.choices(names, weights)[0]
    run.counts[name] += 1
    ACTIONS[name][1](run)


def _draw_content(run: History) -> Hash:
    if run.random.random() < 0.02:
        return run.world.round.checkpoint_root
    return tagged_hash("economy.content", run.random.randrange(CONTENTS).to_bytes(4, "big"))


def _draw_terms(run: History) -> RegisterModel:
    # The deepest more often than others, so that lineages get deep; both tables are in the order of registration.
    models, data = run.oracle.models, list(run.oracle.datasets)
    names = sorted(models, key=lambda name: models[name].depth)
    parents = (run.random.choice([*names[-2:], run.random.choice(names)]),) if run.random.random() < 0.9 else ()
    used = sorted(run.random.sample(data, min(len(data), run.random.choice((0, 0, 1, 2, 8)))))
    return RegisterModel(
        name="drawn",
        spec_hash=tagged_hash("economy.spec"),
        checkpoint_root=_draw_content(run),
        licence="Apache-2.0",
        licence_price=run.random.choice(PRICES),
        royalty_bp=run.random.choice(BASIS_POINTS),
        author_bp=run.random.choice(BASIS_POINTS),
        parents=parents,
        datasets=tuple(used),
    )


def _draw_model(run: History) -> Hash:
    """Return a model: the network's, which alone has holders, as often as all others together."""
    if run.random.random() < 0.5:
        return run.world.context.task_id
    return run.random.choice(sorted(run.oracle.models))
