"""Which texts name a licence: the forms of SPDX that stand in one line without brackets.

`MIT`, `GPL-2.0+`, `LicenseRef-mine`, `Apache-2.0 WITH LLVM-exception`, and these joined by AND and OR. Whether SPDX
lists an identifier, and what a licence allows, the ledger does not know. Source: SPDX specification 2.3, annex D.
"""

import re

from chain.errors import InvalidTransaction

_ID = r"[A-Za-z0-9][A-Za-z0-9.-]*"
_SIMPLE = rf"{_ID}\+?(?: WITH {_ID})?"
_EXPRESSION = re.compile(rf"{_SIMPLE}(?: (?:AND|OR) {_SIMPLE})*")
_OPERATORS = {"AND", "OR", "WITH"}


def validate_licence(text: str) -> None:
    """Check that `text` has the form of an SPDX expression; raises InvalidTransaction."""
    identifiers = text.split(" ")[::2]
    if not _EXPRESSION.fullmatch(text) or _OPERATORS.intersection(identifiers):
        raise InvalidTransaction("licence", f"found {text!r}, expected an SPDX expression such as Apache-2.0")
