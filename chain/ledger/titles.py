"""Text that strangers write and that others' terminals show: names of models, titles of proposals.

It says which characters may stand there, and knows no record.
"""

from chain.errors import InvalidTransaction


def validate_title(rule: str, text: str) -> None:
    """Check that `text` says something and controls no terminal; raises InvalidTransaction with `rule`."""
    # Ranges, not a property of characters: Unicode's tables differ between machines.
    if not text or any(character < " " or "\x7f" <= character <= "\x9f" for character in text):
        message = f"found {text!r}, expected at least one character and none that controls a terminal"
        raise InvalidTransaction(rule, message)
