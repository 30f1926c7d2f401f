"""Income of models: each payment is split along the lineage, as it was agreed when each model was registered.

Of a payment the treasury, the data sets' owners, the parent and the author get their basis points, each rounded down;
whatever is left, rounding too, belongs to the shareholders. What reaches a parent is its own income and is split
likewise, without the treasury. So every atom has one place, and payments leave the same state in any order. It knows
no holder of shares.
"""

from dataclasses import replace

from chain.errors import InvalidTransaction
from chain.ledger.accounts import apply_credit, apply_debit
from chain.ledger.context import BlockScope
from chain.ledger.economy_records import Licence
from chain.ledger.keys import SUPPLY_KEY, dataset_key, licence_key, model_key
from chain.ledger.registry import TREASURY_BP, get_model
from chain.ledger.shares import compute_spread
from chain.primitives import BASIS_POINTS, Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import BuyLicence, PayModel


def apply_buy_licence(scope: BlockScope, view: StateView, sender: PublicKey, buy: BuyLicence) -> None:
    """Pay the price of a model's licence and record it; raises InvalidTransaction."""
    price = get_model(view, buy.model).terms.licence_price
    if not price:
        raise InvalidTransaction("licence-free", "found a model that sells no licence, expected one with a price")
    if buy.price != price:
        raise InvalidTransaction("licence-price", f"found {buy.price} atoms, expected {price}")
    key = licence_key(buy.model, sender)
    held = view.get(key)
    if held is not None:
        raise InvalidTransaction("licence-held", f"found a licence bought in block {held.height}, expected none")
    apply_debit(view, sender, price)
    view.put(key, Licence(scope.draft.height, price))
    apply_payment(view, buy.model, price)


def apply_pay_model(view: StateView, sender: PublicKey, pay: PayModel) -> None:
    """Pay a model; raises InvalidTransaction."""
    get_model(view, pay.model)
    apply_debit(view, sender, pay.amount)
    apply_payment(view, pay.model, pay.amount)


def compute_part(amount: int, basis_points: int) -> int:
    """Return the atoms that `basis_points` of an amount are, rounded down."""
    return amount * basis_points // BASIS_POINTS


def apply_payment(view: StateView, model: Hash, amount: int) -> None:
    """Split `amount` atoms, taken elsewhere, among treasury, lineage and shareholders of a registered model."""
    tax, supply = compute_part(amount, TREASURY_BP), view.get_existing(SUPPLY_KEY)
    view.put(SUPPLY_KEY, replace(supply, treasury=supply.treasury + tax))
    _apply_income(view, model, amount, amount - tax)


def _apply_income(view: StateView, name: Hash, amount: int, left: int) -> None:
    """Split `amount` atoms that reach a model, of which `left` are here; basis points count of the whole."""
    model = view.get_existing(model_key(name))
    datasets = [view.get_existing(dataset_key(dataset)) for dataset in model.terms.datasets]
    owed = [(dataset.owner, dataset.terms.royalty_bp) for dataset in datasets]
    for owner, basis_points in (*owed, (model.owner, model.terms.author_bp)):
        part = compute_part(amount, basis_points)
        apply_credit(view, owner, part)
        left -= part
    for parent in model.terms.parents:
        part = compute_part(amount, view.get_existing(model_key(parent)).terms.royalty_bp)
        _apply_income(view, parent, part, part)
        left -= part
    view.put(model_key(name), compute_spread(model, left))
