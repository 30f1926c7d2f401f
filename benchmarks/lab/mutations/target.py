"""What a campaign attacks: valid objects as bytes, who judges bytes shown in their place, and forgeries.

A judge returns when it accepts and raises one of `REFUSALS` when it does not; whatever else it raises is a crash. A
mutator knows bytes alone. A forgery is made with what the maker of an object knew, everything consistent that such an
attacker can make so. A new target is a module with a `Target`, and a line in `targets`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from chain.errors import DecodeError, InvalidBlock, InvalidProof, InvalidTransaction
from node.rpc.client import BadAnswer, RemoteError

REFUSALS = (DecodeError, InvalidBlock, InvalidProof, InvalidTransaction, BadAnswer, RemoteError)

Judge = Callable[[bytes], None]
"""Returns when it accepts; raises one of `REFUSALS`, or `SameBelief`."""


class SameBelief(Exception):
    """What is shown says what the valid object says: in other words, or where nobody looks. It is valid by rights."""


Mutator = Callable[[Random, bytes, bytes], bytes]
"""Returns altered bytes, from those of one object and of another of the same target."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Bytes and who is to judge them."""

    data: bytes
    judge: Judge
    is_staged: bool = False
    """Whether the attacker has set the scene too, so that even a valid object's bytes are invalid before this judge."""


Forgery = Callable[[Random], Attempt | None]
"""Returns an attempt; None where it would be valid by rights.

It says in its docstring which of its objects are valid by rights, and why.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A valid object with its forgeries by name."""

    honest: Attempt
    forgeries: Mapping[str, Forgery] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of object that a stranger may show."""

    name: str
    shown: str
    """What is shown, and whose check refuses it."""
    make_samples: Callable[[], tuple[Sample, ...]]
    """Makes two or more objects, the same each time, none of them valid in another's place."""
    mutators: Mapping[str, Mutator]
