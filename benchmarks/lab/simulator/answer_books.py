"""What becomes of the atoms of paid answers, and who wins: told from blocks, beside the ledger.

An inference holds its escrow and its deposits until it is closed. An honest answer is paid and a lie is not, wherever
the parties could act in time; no op that a lie cannot show is ever opened, whatever fails.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.lab.simulator.false_answers import Given
from benchmarks.lab.simulator.machine import InvariantBroken
from benchmarks.lab.simulator.purses import Purses
from chain.genesis import Parameters
from chain.inference import AnswerInference, ChallengeAnswer, CloseInference, OpenAnswer, RequestInference
from chain.ledger.inference import CHALLENGE_PARTS, compute_inference_id
from chain.ledger.keys import inference_key
from chain.primitives import BASIS_POINTS, Hash, PublicKey
from chain.state.view import StateView
from chain.transaction import TransactionBody

ASKED = "answers asked for"
ANSWERED = "answers given"
OPENED = "places of answers opened"
PAID = "answers paid"
CAUGHT = "lies caught"
LOST = "honest answers lost in silence"
UNANSWERED = "requests sent back"
COUNTED = (ASKED, ANSWERED, OPENED, PAID, CAUGHT, LOST, UNANSWERED)
OPENING_MS = 12_000
"""In which a provider opens a challenged place, where nothing fails: it looks once a second, and blocks come in two."""


@dataclass(slots=True)
class Deal:
    """One inference on the way to its close."""

    requester: PublicKey
    terms: RequestInference
    answer: AnswerInference | None = None
    challenge: tuple[PublicKey, ChallengeAnswer, int] | None = None
    """By whom, of which place, and in a block of which time in ms."""


@dataclass(slots=True)
class AnswerBooks:
    """The books of all inferences."""

    chain_id: Hash
    parameters: Parameters
    purses: Purses
    answers: Mapping[Hash, Given]
    """What is known of each answer by its hash."""
    is_quiet: bool
    """Whether nothing fails and nobody means harm but providers."""
    counts: Counter[str] = field(default_factory=Counter)
    _deals: dict[Hash, Deal] = field(default_factory=dict)

    @property
    def _stake(self) -> int:
        return self.parameters.deposit // CHALLENGE_PARTS

    def add(self, body: TransactionBody, time_ms: int) -> None:
        """Take a transaction of a block of this time; raises InvariantBroken."""
        sender, action = body.sender, body.action
        match action:
            case RequestInference():
                self._deals[compute_inference_id(self.chain_id, sender, body.nonce)] = Deal(sender, action)
                self.purses.add(sender, -action.tokens * action.price)
                self.counts[ASKED] += 1
            case AnswerInference():
                self._deals[action.inference].answer = action
                self.purses.add(sender, -self.parameters.deposit)
                self.counts[ANSWERED] += 1
            case ChallengeAnswer():
                self._deals[action.inference].challenge = sender, action, time_ms
                self.purses.add(sender, -self._stake)
            case OpenAnswer():
                self._open(self._deals[action.inference])
            case CloseInference():
                self._close(self._deals.pop(action.inference), time_ms)
            case _:
                pass

    def check(self, view: StateView, height: int) -> None:
        """Hold what stands under each name against the state after a block; raises InvariantBroken."""
        for name, deal in self._deals.items():
            record, expected = view.get(inference_key(name)), self._compute_held(deal)
            found = None if record is None else record.held
            if found != expected:
                detail = f"at height {height} {name.hex()[:16]} holds {found} atoms, expected {expected}"
                raise InvariantBroken("an inference adds up", detail)

    def _compute_held(self, deal: Deal) -> int:
        held = deal.terms.tokens * deal.terms.price
        held += 0 if deal.answer is None else self.parameters.deposit
        return held + (0 if deal.challenge is None else self._stake)

    def _open(self, deal: Deal) -> None:
        assert deal.answer is not None
        assert deal.challenge is not None
        place = deal.challenge[1]
        if place.op in self.answers[deal.answer.answer_hash].false_ops:
            raise InvariantBroken("no false op is opened", f"op {place.op} of {place.inference.hex()[:16]} was")
        self.purses.add(deal.terms.provider, self._stake // 2)
        deal.challenge = None
        self.counts[OPENED] += 1

    def _close(self, deal: Deal, time_ms: int) -> None:
        escrow, deposit, provider = deal.terms.tokens * deal.terms.price, self.parameters.deposit, deal.terms.provider
        if deal.answer is None:
            self.purses.add(deal.requester, escrow)
            self.counts[UNANSWERED] += 1
            return
        is_honest = self.answers[deal.answer.answer_hash].is_honest
        if deal.challenge is None:
            paid = deal.answer.tokens * deal.terms.price
            self.purses.add(provider, deposit + paid * deal.terms.provider_bp // BASIS_POINTS)
            self.purses.add(deal.requester, escrow - paid)
            self.counts[PAID] += 1
            if self.is_quiet and not is_honest:
                raise InvariantBroken("a lie is not paid", f"{deal.answer.inference.hex()[:16]} was")
            return
        challenger, place, since_ms = deal.challenge
        self.purses.add(deal.requester, escrow)
        self.purses.add(challenger, self._stake + deposit // 2)
        self.counts[LOST if is_honest else CAUGHT] += 1
        if self.is_quiet and is_honest and time_ms - since_ms > OPENING_MS:
            raise InvariantBroken("an honest answer is paid", f"{place.inference.hex()[:16]} was not")
