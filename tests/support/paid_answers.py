"""A ledger on which a real model answers for money: who asks, who answers, and the actions of each."""

from dataclasses import dataclass, replace

from chain.inference import (
    AnswerInference,
    ChallengeAnswer,
    CloseInference,
    InferenceAction,
    OpenAnswer,
    RequestInference,
)
from chain.ledger.inference import compute_inference_id
from chain.ledger.inference_records import Inference
from chain.ledger.keys import inference_key
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import RegisterModel
from ml.answer import compute_answer_hash, compute_request_hash
from ml.answering import Served, Traced, compute_answer, open_answer
from ml.checkpoint import Checkpoint
from ml.openings import Place
from ml.spec import compute_spec_hash, encode_spec
from node.inference.claims import make_place, make_shown
from tests.support.answers import TEXT, get_checkpoint_roots, make_answer, make_server, serve_checkpoint
from tests.support.economy import make_model, register_model
from tests.support.ledger import BOB, CAROL, DAVE, LedgerChain
from tests.support.models import TINY_SPECS, make_case

NAME = "decoder"
SPEC = TINY_SPECS[NAME]
PRICE = 10**9
REQUESTER, PROVIDER, CHALLENGER, AUTHOR = DAVE, BOB, CAROL, DAVE


@dataclass(slots=True)
class Market:
    """A chain with a registered model and one inference of it."""

    chain: LedgerChain
    model: Hash
    inference: Hash
    request: RequestInference

    @property
    def record(self) -> Inference | None:
        """The inference at the head, None once it is closed."""
        return self.chain.view.get(inference_key(self.inference))

    def mine(self, key: SigningKey, action: InferenceAction) -> None:
        """Append a block with one action; raises InvalidBlock. The chain checks that no atom is made or lost."""
        self.chain.mine(self.chain.sign(key, action))

    def answer(self, traced: Traced, tokens: int | None = None) -> AnswerInference:
        """Return the provider's action for an answer."""
        answer = traced.answer
        count = len(answer.output) if tokens is None else tokens
        return AnswerInference(self.inference, compute_answer_hash(answer), answer.trace_root, count)

    def challenge(self, place: Place) -> ChallengeAnswer:
        """Return a challenge of a place."""
        return ChallengeAnswer(self.inference, place.step, place.op, place.row, place.column, place.depth)

    def open(self, served: Served, traced: Traced, place: Place) -> OpenAnswer:
        """Return the opening of a place by whoever answered with `served`."""
        opening = open_answer(served, traced, (place,))[0]
        return make_shown(self.inference, encode_spec(SPEC), traced.answer, get_checkpoint_roots(NAME), opening)

    def open_challenged(self, served: Served, traced: Traced) -> OpenAnswer:
        """Return the opening of the place that is challenged."""
        assert self.record is not None
        return self.open(served, traced, make_place(self.record.challenges[0].place))

    def close(self) -> CloseInference:
        """Return the action that pays out."""
        return CloseInference(self.inference)


def make_terms(number: int = 1) -> RegisterModel:
    """Return the registration of the tiny model, of which its author gets a fifth."""
    terms = make_model(number, author_bp=2_000)
    return replace(terms, spec_hash=compute_spec_hash(SPEC), checkpoint_root=make_server(NAME).checkpoint_root)


def make_request(chain: LedgerChain) -> RequestInference:
    """Return a request of six bytes at most, of which the answer is five, half of the price the provider's."""
    root, request_hash = make_server(NAME).checkpoint_root, compute_request_hash(TEXT)
    return RequestInference(root, request_hash, PROVIDER.public_key, 5_000, 6, PRICE, chain.height + 10)


def open_market() -> Market:
    """Return a chain on which the request has just been made."""
    chain = LedgerChain()
    model = register_model(chain, AUTHOR, make_terms())
    request = make_request(chain)
    nonce = chain.account(REQUESTER).nonce
    chain.mine(chain.sign(REQUESTER, request))
    return Market(chain, model, compute_inference_id(chain.context.chain_id, REQUESTER.public_key, nonce), request)


def make_substitute() -> tuple[Served, Traced]:
    """Return another model, and its answer under the name of the one that was asked for."""
    checkpoint = make_case(NAME).runner.checkpoint
    weights = tuple(part + 1000 * (1 + part % 7) for part in checkpoint.weights)
    other = serve_checkpoint(NAME, Checkpoint(weights, checkpoint.momentum))
    traced = compute_answer(other, TEXT)
    return other, Traced(replace(traced.answer, checkpoint_root=make_server(NAME).checkpoint_root), traced.passes)


def make_padded() -> Traced:
    """Return the honest answer with a byte more than was asked for, and a pass for it."""
    longer = compute_answer(make_server(NAME), replace(TEXT, count=6))
    answer = replace(longer.answer, request=TEXT)
    assert longer.answer.output[:5] == make_answer(NAME).answer.output
    return Traced(answer, longer.passes)
