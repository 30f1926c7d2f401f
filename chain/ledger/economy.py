"""The economy's actions: what of each is checked without the state, what it costs, and which rule applies it.

One place that knows all of them, so that transactions need not; the rules stand in `registry`, `dataset_parts`,
`shares` and `income`.
"""

from typing import assert_never

from chain.errors import InvalidTransaction
from chain.ledger.context import BlockScope
from chain.ledger.dataset_parts import PART_PRICE, apply_add_part, validate_part_terms
from chain.ledger.income import apply_buy_licence, apply_pay_model
from chain.ledger.registry import (
    apply_register_dataset,
    apply_register_model,
    validate_dataset_terms,
    validate_model_terms,
)
from chain.ledger.shares import apply_claim, apply_transfer_shares
from chain.primitives import PublicKey
from chain.signature import is_valid_point
from chain.state.view import StateView
from chain.transaction import (
    AddDatasetPart,
    BuyLicence,
    ClaimIncome,
    EconomyAction,
    PayModel,
    RegisterDataset,
    RegisterModel,
    TransferShares,
)


def validate_economy_action(action: EconomyAction) -> None:
    """Check what of an action needs no state; raises InvalidTransaction."""
    match action:
        case RegisterDataset():
            validate_dataset_terms(action)
        case RegisterModel():
            validate_model_terms(action)
        case TransferShares(recipient=recipient, units=units):
            _validate_positive("units", units)
            if not is_valid_point(recipient):
                raise InvalidTransaction("recipient", f"found {recipient.hex()}, expected a public key")
        case PayModel(amount=amount):
            _validate_positive("amount", amount)
        case AddDatasetPart():
            validate_part_terms(action)
        case BuyLicence() | ClaimIncome():
            pass
        case _:
            assert_never(action)


def compute_economy_cost(action: EconomyAction) -> int:
    """Return the atoms that an action takes from its sender beside the fee."""
    match action:
        case BuyLicence(price=price):
            return price
        case PayModel(amount=amount):
            return amount
        case AddDatasetPart():
            return PART_PRICE
        case RegisterDataset() | RegisterModel() | TransferShares() | ClaimIncome():
            return 0
    assert_never(action)


def apply_economy_action(scope: BlockScope, view: StateView, sender: PublicKey, action: EconomyAction) -> None:
    """Change `view` by an action that `validate_economy_action` accepts; raises InvalidTransaction."""
    match action:
        case RegisterDataset():
            apply_register_dataset(scope, view, sender, action)
        case RegisterModel():
            apply_register_model(scope, view, sender, action)
        case TransferShares():
            apply_transfer_shares(view, sender, action)
        case BuyLicence():
            apply_buy_licence(scope, view, sender, action)
        case PayModel():
            apply_pay_model(view, sender, action)
        case ClaimIncome():
            apply_claim(view, sender, action)
        case AddDatasetPart():
            apply_add_part(scope, view, sender, action)
        case _:
            assert_never(action)


def _validate_positive(rule: str, found: int) -> None:
    if not found:
        raise InvalidTransaction(rule, "found 0, expected at least 1")
