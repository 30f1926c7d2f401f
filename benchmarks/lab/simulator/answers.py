"""A buyer of answers and their provider, who deal through the chain: escrow, answer, challenge, opening, close.

Texts travel beside it: `Desk` is where they are handed over. Some answers lie, some are never given. The buyer runs
each again, or has the provider show it first, and pursues a lie as `node.inference.pursuit` does; the provider opens
what it can. Each decision follows from the head it is made on, as that may be another branch's.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from random import Random

from benchmarks.lab.simulator.false_answers import LIES, Given, answer_honestly, make_maker, make_request
from benchmarks.lab.simulator.setting import SPEC, Setting
from benchmarks.lab.simulator.wallet import Wish
from chain.codec import decode
from chain.errors import InvalidProof
from chain.inference import (
    ANSWER_OPENING_BYTES_MAX,
    AnswerInference,
    ChallengeAnswer,
    CloseInference,
    InferenceAction,
    OpenAnswer,
    RequestInference,
)
from chain.ledger.accounts import get_account
from chain.ledger.inference import OPEN_BLOCKS, compute_inference_id
from chain.ledger.inference_records import Inference
from chain.ledger.keys import inference_key
from chain.primitives import Hash
from ml.answer import Request, compute_answer_hash, compute_request_hash
from ml.answer_checks import AnswerOpening
from ml.answering import open_answer
from ml.lie_search import LieSearch, start_search
from ml.openings import Place
from ml.spec import encode_spec
from node.chain import Chain
from node.inference.claims import make_place, make_shown
from node.inference.payments import make_opening
from node.inference.pursuit import ANYWHERE
from node.rpc.inference_methods import PlaceView

LIE_CHANCE, SILENCE_CHANCE, UNSEEN_CHANCE = 0.4, 0.2, 0.5
ASK_CHANCE = 0.25
"""Of a look at the head."""
VAIN_CHANCE = 0.2
"""Of a look at a challenge that no opening answers: that one is tried all the same."""
OPEN_MAX = 6
"""Inferences of the buyer that are open at a time."""
DEADLINE_BLOCKS = (4, 9)
TOKENS = 3
"""Bytes whose price is put in; one is answered, and the rest comes back."""
PRICE_MAX = 10**8
PROVIDER_BP = 5_000


@dataclass(slots=True)
class Desk:
    """What goes from hand to hand beside the chain: requests and answers by their hashes."""

    names: dict[Hash, None] = field(default_factory=dict)
    """Of all inferences that were asked for, in that order; a name is that of a nonce, whatever was asked with it."""
    requests: dict[Hash, Request] = field(default_factory=dict)
    answers: dict[Hash, Given] = field(default_factory=dict)

    def list_open(self, chain: Chain) -> list[tuple[Hash, Inference]]:
        """Return the inferences that are open on the head."""
        view = chain.view()
        found = [(name, view.get(inference_key(name))) for name in self.names]
        return [(name, record) for name, record in found if record is not None]


class Provider:
    """Answers what is asked of it: honestly, with a lie, or not at all."""

    def __init__(self, desk: Desk, random: Random) -> None:
        """Take requests from `desk`."""
        self._desk = desk
        self._random = random
        self._given: dict[Hash, Given | None] = {}
        """By the hash of what was asked; None for silence."""

    def decide(self, chain: Chain) -> list[Wish]:
        """Open what is challenged, answer what is asked, close what is to be paid."""
        actions = [self._act(name, found, chain.head.height + 1) for name, found in self._desk.list_open(chain)]
        # Openings last: one that is refused lets nothing through that was signed after it.
        actions.sort(key=lambda action: isinstance(action, OpenAnswer))
        return [(action, None) for action in actions if action is not None]

    def _act(self, name: Hash, found: Inference, following: int) -> InferenceAction | None:
        """Return what an inference asks for in the `following` block."""
        given = self._give(found.terms.request_hash)
        if given is None:
            return None
        if found.challenges:
            place, is_late = found.challenges[0].place, following > found.challenges[0].height + OPEN_BLOCKS
            is_vain = place.op in given.false_ops and self._random.random() > VAIN_CHANCE
            return None if is_late or is_vain else open_place(name, given, place)
        if found.answers:
            return CloseInference(name) if following > found.last_height else None
        answer = given.traced.answer
        hashes = compute_answer_hash(answer), answer.trace_root
        return AnswerInference(name, *hashes, len(answer.output)) if following <= found.terms.deadline else None

    def _give(self, request_hash: Hash) -> Given | None:
        """Return the answer to a request, the same each time."""
        if request_hash not in self._given:
            request, maker, drawn = self._desk.requests[request_hash], make_maker(SPEC), self._random.random()
            given = None
            if drawn < LIE_CHANCE:
                given = self._random.choice(LIES)(maker, request, self._random)
            elif drawn < 1 - SILENCE_CHANCE:
                given = answer_honestly(maker, request)
            self._given[request_hash] = given
            if given is not None:
                self._desk.answers[compute_answer_hash(given.traced.answer)] = given
        return self._given[request_hash]


@dataclass(slots=True)
class Hunt:
    """What the buyer knows of one answer."""

    search: LieSearch | None = None
    asked: tuple[Place, int] | None = None
    """The place that was challenged last, and in the block of which height."""
    is_over: bool = False
    """Whether the answer was found right."""


class Buyer:
    """Asks, pursues what is false, and takes back what is its own."""

    def __init__(self, setting: Setting, desk: Desk, random: Random) -> None:
        """Ask for answers of the network's first checkpoint, and leave requests on `desk`."""
        self._setting = setting
        self._desk = desk
        self._random = random
        self._owner = setting.people["buyer"].public_key
        self._hunts: defaultdict[Hash, Hunt] = defaultdict(Hunt)
        """By the hash of what was asked."""

    def decide(self, chain: Chain) -> list[Wish]:
        """Do what open inferences ask for, and ask for one more now and then."""
        still_open = self._desk.list_open(chain)
        acted = [self._act(chain, name, found, self._hunts[found.terms.request_hash]) for name, found in still_open]
        actions = [action for action in acted if action is not None]
        if len(still_open) < OPEN_MAX and self._random.random() < ASK_CHANCE:
            actions.append(self._ask(chain, len(actions)))
        return [(action, None) for action in actions]

    def _act(self, chain: Chain, name: Hash, found: Inference, hunt: Hunt) -> InferenceAction | None:
        """Return what an inference asks for in the next block."""
        following = chain.head.height + 1
        if found.challenges:
            challenge = found.challenges[0]
            hunt.asked = make_place(challenge.place), challenge.height
            return CloseInference(name) if following > challenge.height + OPEN_BLOCKS else None
        if not found.answers:
            return CloseInference(name) if following > found.terms.deadline else None
        if following > found.last_height or hunt.is_over:
            return None
        place = self._pursue(chain, name, found.answers[0].answer_hash, hunt)
        if place is None:
            return None
        return ChallengeAnswer(name, place.step, place.op, place.row, place.column, place.depth)

    def _ask(self, chain: Chain, before: int) -> RequestInference:
        """Return a request that is sent as the transaction behind so many others."""
        random, nonce = self._random, get_account(chain.view(), self._owner).nonce + before
        request, blocks = make_request(random), random.randrange(*DEADLINE_BLOCKS)
        request_hash = compute_request_hash(request)
        self._desk.names[compute_inference_id(self._setting.context.chain_id, self._owner, nonce)] = None
        self._desk.requests[request_hash] = request
        return RequestInference(
            checkpoint_root=self._setting.genesis.task.checkpoint_root,
            request_hash=request_hash,
            provider=self._setting.people["provider"].public_key,
            provider_bp=PROVIDER_BP,
            tokens=TOKENS,
            price=random.randrange(1, PRICE_MAX),
            deadline=chain.head.height + blocks,
        )

    def _pursue(self, chain: Chain, name: Hash, answer_hash: Hash, hunt: Hunt) -> Place | None:
        """Return the place to challenge next; None when the answer is right."""
        if hunt.search is None and hunt.asked is None and self._random.random() < UNSEEN_CHANCE:
            return ANYWHERE
        if hunt.search is None:
            maker = make_maker(SPEC)
            answer = self._desk.answers[answer_hash].traced.answer
            hunt.search = start_search(maker.served, answer, maker.checkpoint_roots)
            hunt.is_over = hunt.search is None
            return None if hunt.search is None else hunt.search.begin()
        shown = None if hunt.asked is None else _find_opening(chain, name, hunt.asked[1])
        if shown is None or hunt.asked is None or hunt.asked[0] == ANYWHERE:
            return hunt.search.begin()
        try:
            return hunt.search.advance(hunt.asked[0], decode(AnswerOpening, shown.opening, ANSWER_OPENING_BYTES_MAX))
        except InvalidProof:
            # What was opened on this branch is not what was asked on another.
            return hunt.search.begin()


def open_place(name: Hash, given: Given, place: ChallengeAnswer) -> OpenAnswer | None:
    """Return the opening of a place, of a lie as it was computed; None where not even that holds."""
    maker, traced = make_maker(SPEC), given.traced
    if given.is_honest:
        view = PlaceView(place.number, place.op, place.row, place.column, place.depth)
        return make_opening(maker, maker.make_receipt(traced), name, view)
    try:
        opening = open_answer(given.served, traced, (make_place(place),))[0]
    except InvalidProof:
        return None
    return make_shown(name, encode_spec(SPEC), traced.answer, maker.checkpoint_roots, opening)


def _find_opening(chain: Chain, name: Hash, height: int) -> OpenAnswer | None:
    """Return what opened the challenge in the block at `height`."""
    for later in range(height + 1, chain.head.height + 1):
        block = chain.get_existing_block(chain.head.get_ancestor(later).hash)
        for transaction in block.transactions:
            action = transaction.body.action
            if isinstance(action, OpenAnswer) and action.inference == name:
                return action
    return None
