"""The record of a paid answer, whole under one key of the state from its request to its close.

What was asked, answered and challenged stands in it as it was signed. It holds what is so, not what may follow.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U64, HashField, Many, PublicKeyField
from chain.inference import AnswerInference, ChallengeAnswer, RequestInference


@dataclass(frozen=True, slots=True)
class Challenge:
    """A place that the provider has to open, whose demand it was, in which block, and the atoms that stand for it."""

    challenger: PublicKeyField
    place: ChallengeAnswer
    height: U64
    deposit: U64


@dataclass(frozen=True, slots=True)
class Inference:
    """A request with its escrow; once answered the provider's deposit; the challenge that waits for an opening.

    An answer may be challenged up to `last_height`.
    """

    requester: PublicKeyField
    model: HashField
    terms: RequestInference
    escrow: U64
    answers: Annotated[tuple[AnswerInference, ...], Many(1)]
    deposit: U64
    last_height: U64
    challenges: Annotated[tuple[Challenge, ...], Many(1)]

    @property
    def held(self) -> int:
        """Atoms that stand here: the escrow and all deposits."""
        return self.escrow + self.deposit + sum(challenge.deposit for challenge in self.challenges)
