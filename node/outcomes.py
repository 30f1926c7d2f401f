"""What became of a block or of headers: one word, and what a caller needs beside it.

The vocabulary of whoever imports and whoever asks for it; it decides nothing and knows no peer.
"""

from dataclasses import dataclass
from enum import Enum, auto

from chain.primitives import Hash


class ImportResult(Enum):
    """What became of a block."""

    EXTENDED = auto()
    REORGED = auto()
    SIDE_BRANCH = auto()
    EVIDENCE = auto()
    """On a side branch, and the second content of its ticket: worth telling, whatever becomes of it."""
    SURPLUS = auto()
    """One content more than two of its ticket, and nothing is built on it: not kept."""
    LIGHT = auto()
    """Headers: valid, too light to be kept so far, and remembered by their end alone."""
    PROVEN = auto()
    """Headers: the end of a branch whose work is enough; it is kept when its headers come again from the first."""
    ALREADY_KNOWN = auto()
    ORPHAN = auto()
    MISSING_DATA = auto()
    TOO_DEEP = auto()
    """Heavier than the head, but it forks off deeper than states are kept: a person must decide."""
    REFUSED = auto()
    """Not valid yet, its time lies ahead of our clock; or beside the head, where its miner has nothing to lose."""
    INVALID = auto()


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """A result, with the rule that refused the block or the sidecars that it needs first."""

    result: ImportResult
    hash: Hash
    rule: str = ""
    message: str = ""
    missing: tuple[Hash, ...] = ()
