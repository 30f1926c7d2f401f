"""What a verified multiply-accumulate is worth: a price that the ledger moves by an eighth a round, at most.

A segment is paid the price times its MACs, whoever else contributes. What a round does not spend stays in the pot and
raises the price of the next; what it lacks is shared by MACs and lowers it. So nobody earns more in a round because
others were kept out of it. It knows no segment and no account. Source: EIP-1559, whose base fee moves so by block.
"""

PRICE_UNIT_MACS = 1 << 40
"""Multiply-accumulates that a price is for: one atom for them is far below what any network pays."""

STEP_DIVISOR = 8
"""A price moves by an eighth of itself at most."""

PRICE_MAX = 2**64 - 1


def compute_payment(price: int, pot: int, macs: int, macs_total: int) -> int:
    """Return the atoms for `macs` of a round's `macs_total`: by price, or where the pot is too small by share."""
    if price * macs_total // PRICE_UNIT_MACS <= pot:
        return price * macs // PRICE_UNIT_MACS
    return pot * macs // macs_total


def compute_next_price(price: int, pot: int, macs_total: int) -> int:
    """Return the price after a round that had `pot` to spend on `macs_total` verified MACs.

    It moves towards what would have spent all of it. A round without any says nothing about worth and moves nothing.
    """
    if macs_total == 0:
        return price
    fitting, step = pot * PRICE_UNIT_MACS // macs_total, max(1, price // STEP_DIVISOR)
    return min(max(fitting, price - step, 1), price + step, PRICE_MAX)
