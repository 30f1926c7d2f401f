"""Characters that would steer a terminal: which they are, and text without them.

What a node, a stranger's record or a model says is shown through it. It knows no terminal.
"""

import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_KEPT = "\n\t"
_STEERING = ("Cc", "Cf", "Zl", "Zp")
"""Categories of controls, of what turns the direction of text, and of what ends a line."""


def clean(text: str) -> str:
    """Return `text` with control characters but newline and tab replaced."""
    return "".join(REPLACEMENT if is_control(c) and c not in _KEPT else c for c in text)


def clean_line(text: str) -> str:
    """Return `text` with all control characters replaced, so that it stays one line."""
    return "".join(REPLACEMENT if is_control(c) else c for c in text)


def is_control(character: str) -> bool:
    """Say whether a character steers a terminal or is none of a line's own."""
    return unicodedata.category(character) in _STEERING
