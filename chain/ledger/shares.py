"""Shares of a model: units that verified work mints, and what each has earned.

Income is spread by a counter of what one unit has earned, in 2^-64 atoms, so that no payment visits a holder. An
account is brought up to that counter before its units change, so that units earn from when they arrive to when they
leave. What cannot be divided stays in the model's record, what is no whole atom in the holder's: always
held · 2^64 = remainder + waiting · 2^64 + what all holders are owed. It knows no payer.
"""

from dataclasses import replace

from chain.errors import InvalidTransaction
from chain.ledger.accounts import apply_credit
from chain.ledger.economy_records import EMPTY_SHARES, Model, Shares
from chain.ledger.keys import model_key, shares_key
from chain.ledger.registry import get_model
from chain.primitives import Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import ClaimIncome, TransferShares

FRACTION_BITS = 64


def compute_spread(model: Model, amount: int) -> Model:
    """Return a model after `amount` atoms of income for its shareholders; without units it waits."""
    held, undivided = model.held + amount, model.waiting + amount
    if not model.units:
        return replace(model, held=held, waiting=undivided)
    quotient, remainder = divmod((undivided << FRACTION_BITS) + model.remainder, model.units)
    return replace(model, held=held, waiting=0, per_unit=model.per_unit + quotient, remainder=remainder)


def compute_touched(model: Model, shares: Shares) -> Shares:
    """Return an account's shares with all that its units have earned so far."""
    gained = shares.units * (model.per_unit - shares.seen) + shares.fraction
    atoms, fraction = divmod(gained, 1 << FRACTION_BITS)
    return Shares(shares.units, model.per_unit, shares.earned + atoms, fraction)


def apply_mint(view: StateView, name: Hash, holder: PublicKey, units: int) -> None:
    """Give `holder` new units of a model."""
    model = view.get_existing(model_key(name))
    _apply_units(view, name, holder, units)
    view.put(model_key(name), replace(model, units=model.units + units))


def apply_waiting(view: StateView, name: Hash) -> None:
    """Spread the income that came before a model had units, if it has some now."""
    model = view.get_existing(model_key(name))
    if model.waiting and model.units:
        view.put(model_key(name), compute_spread(model, 0))


def apply_transfer_shares(view: StateView, sender: PublicKey, transfer: TransferShares) -> None:
    """Move units that the sender holds; raises InvalidTransaction."""
    get_model(view, transfer.model)
    shares = view.get(shares_key(transfer.model, sender)) or EMPTY_SHARES
    if shares.units < transfer.units:
        raise InvalidTransaction("units", f"found {shares.units}, expected at least {transfer.units}")
    _apply_units(view, transfer.model, sender, -transfer.units)
    _apply_units(view, transfer.model, transfer.recipient, transfer.units)


def apply_claim(view: StateView, sender: PublicKey, claim: ClaimIncome) -> None:
    """Pay the sender all whole atoms that its units have earned; raises InvalidTransaction."""
    model = get_model(view, claim.model)
    shares = compute_touched(model, view.get(shares_key(claim.model, sender)) or EMPTY_SHARES)
    if not shares.earned:
        raise InvalidTransaction("income-none", "found 0 atoms to claim, expected at least 1")
    view.put(model_key(claim.model), replace(model, held=model.held - shares.earned))
    _put_shares(view, claim.model, sender, replace(shares, earned=0))
    apply_credit(view, sender, shares.earned)


def _apply_units(view: StateView, name: Hash, holder: PublicKey, change: int) -> None:
    before = view.get(shares_key(name, holder)) or EMPTY_SHARES
    shares = compute_touched(view.get_existing(model_key(name)), before)
    _put_shares(view, name, holder, replace(shares, units=shares.units + change))


def _put_shares(view: StateView, name: Hash, holder: PublicKey, shares: Shares) -> None:
    # Who has nothing leaves nothing, and starts from the counter when it comes back.
    if shares.units or shares.earned or shares.fraction:
        view.put(shares_key(name, holder), shares)
    else:
        view.delete(shares_key(name, holder))
