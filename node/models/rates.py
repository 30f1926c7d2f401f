"""Rates as people write them, decimals such as 0.004, and as specs hold them: integers in units of 2**-32.

Both ways are exact arithmetic on integers: the units are those nearest to the decimal, and the decimal that is written
for units is the shortest that reads back as the same.
"""

import re
from itertools import count

from ml.spec import RATE_BITS
from node.models.errors import ModelError

_FORM = re.compile(r"(\d{1,9})(?:\.(\d{1,30}))?(?:[eE]([+-]?\d{1,2}))?")


def parse_rate(text: str) -> int:
    """Return a decimal such as "0.004" or "4e-3" in units of 2**-32, to nearest; raises ModelError."""
    match = _FORM.fullmatch(text) if text.isascii() else None
    if match is None:
        raise ModelError("bad-spec", f"found the rate {text!r:.40}, expected a decimal such as 0.004 or 4e-3")
    whole, fraction, exponent = match[1], match[2] or "", int(match[3] or 0) - len(match[2] or "")
    units, power = int(whole + fraction) << RATE_BITS, int(10 ** abs(exponent))
    return units * power if exponent >= 0 else _divide(units, power)


def format_rate(units: int) -> str:
    """Return the shortest decimal that `parse_rate` reads as `units`."""
    for digits in count():
        scaled = _divide(units * 10**digits, 1 << RATE_BITS)
        if _divide(scaled << RATE_BITS, 10**digits) == units:
            return format_fixed(scaled, digits)
    raise AssertionError


def format_fixed(scaled: int, digits: int) -> str:
    """Return scaled / 10**digits as a decimal, scaled >= 0."""
    text = str(scaled).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]}" if digits else text


def format_ratio(numerator: int, denominator: int, digits: int) -> str:
    """Return numerator / denominator >= 0 as a decimal of so many digits, rounded half up, exact; 0 / 0 is 0."""
    return format_fixed(_divide(numerator * 10**digits, max(denominator, 1)), digits)


def _divide(numerator: int, denominator: int) -> int:
    """Return the quotient rounded half up."""
    return (2 * numerator + denominator) // (2 * denominator)
