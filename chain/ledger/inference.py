"""Paid answers: escrow, answer, challenge, opening, close. A dispute costs whoever is wrong, and nobody need compute.

The state holds an inference from its request to its close, and no list of them: each step is asked for by whoever has
an interest in it, so a block does no work that nobody paid a fee for. What an opening shows, the learning engine says
from the transaction's own bytes: validators need no weights. It knows no tensor.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from chain.errors import InvalidBlock, InvalidProof, InvalidTransaction
from chain.genesis import Parameters
from chain.hashing import tagged_hash
from chain.inference import (
    AnswerInference,
    ChallengeAnswer,
    CloseInference,
    InferenceAction,
    OpenAnswer,
    RequestInference,
)
from chain.ledger.accounts import apply_credit, apply_debit, apply_halves, get_account
from chain.ledger.context import BlockScope
from chain.ledger.income import apply_payment, compute_part
from chain.ledger.inference_records import Challenge, Inference
from chain.ledger.keys import content_key, inference_key
from chain.ledger.learning import AnswerClaim
from chain.ledger.registry import get_model
from chain.primitives import Hash, PublicKey
from chain.signature import is_valid_point
from chain.state.view import StateView
from chain.transaction import Transaction

PROVIDER_BP_MAX = 9_000
"""A tenth of each payment at least is the model's, whose treasury's part is what it costs to pay oneself."""
DISPUTE_BLOCKS = 32
"""Blocks after an answer, and after each opening, in which it may be challenged: a minute of development blocks."""
OPEN_BLOCKS = 8
"""Blocks in which a challenged place must be opened; longer than any run of blocks that one miner is likely to win."""
OPENING_WEIGHT = 80 * 1024
"""Bytes of a block that an opening counts for at least: 18 fill one of 1.5 MB. One takes 6 ms, and on an old core 0.3 s
more where a stranger's spec makes a program of 32 layers and its rotary table be computed first."""
CHALLENGE_PARTS = 100
"""An answer's deposit over a challenge's. A lie is found by going back from the output, op by op, a challenge each; the
half deposit that ends such a walk pays for fifty of them."""


def compute_inference_id(chain_id: Hash, requester: PublicKey, nonce: int) -> Hash:
    """Return the name of the inference that a requester's transaction with `nonce` asks for."""
    return tagged_hash("inference", chain_id, requester, nonce.to_bytes(8, "little"))


def compute_challenge_deposit(parameters: Parameters) -> int:
    """Return the atoms that stand for a challenge."""
    return parameters.deposit // CHALLENGE_PARTS


def validate_inference_action(action: InferenceAction) -> None:
    """Check what of an action needs no state; raises InvalidTransaction."""
    match action:
        case RequestInference():
            _validate_at_least_one("inference-tokens", action.tokens)
            _validate_at_least_one("inference-price", action.price)
            if action.provider_bp > PROVIDER_BP_MAX:
                message = f"found {action.provider_bp} basis points, expected at most {PROVIDER_BP_MAX}"
                raise InvalidTransaction("inference-part", message)
            if not is_valid_point(action.provider):
                raise InvalidTransaction("recipient", f"found {action.provider.hex()}, expected a public key")
        case AnswerInference():
            _validate_at_least_one("inference-tokens", action.tokens)
        case ChallengeAnswer() | OpenAnswer() | CloseInference():
            pass
        case _:
            assert_never(action)


def compute_inference_cost(action: InferenceAction, parameters: Parameters) -> int:
    """Return the atoms that an action takes from its sender beside the fee."""
    match action:
        case RequestInference(tokens=tokens, price=price):
            return tokens * price
        case AnswerInference():
            return parameters.deposit
        case ChallengeAnswer():
            return compute_challenge_deposit(parameters)
        case OpenAnswer() | CloseInference():
            return 0
    assert_never(action)


def apply_inference_action(scope: BlockScope, view: StateView, sender: PublicKey, action: InferenceAction) -> None:
    """Change `view` by an action that `validate_inference_action` accepts; raises InvalidTransaction."""
    match action:
        case RequestInference():
            _apply_request(scope, view, sender, action)
        case AnswerInference():
            _apply_answer(scope, view, sender, action)
        case ChallengeAnswer():
            _apply_challenge(scope, view, sender, action)
        case OpenAnswer():
            _apply_open(scope, view, action)
        case CloseInference():
            _apply_close(scope, view, action)
        case _:
            assert_never(action)


def validate_opening_count(parameters: Parameters, transactions: Sequence[Transaction]) -> None:
    """Check that a block has no more openings than all can verify in time; raises InvalidBlock."""
    found = sum(isinstance(transaction.body.action, OpenAnswer) for transaction in transactions)
    expected = parameters.block_bytes_max // OPENING_WEIGHT
    if found > expected:
        raise InvalidBlock("block-openings", f"found {found} openings of answers, expected at most {expected}")


def get_inference(view: StateView, name: Hash) -> Inference:
    """Return an inference that is not closed; raises InvalidTransaction."""
    inference = view.get(inference_key(name))
    if inference is None:
        raise InvalidTransaction("inference-unknown", f"found {name.hex()}, expected an inference that is not closed")
    return inference


def _apply_request(scope: BlockScope, view: StateView, sender: PublicKey, terms: RequestInference) -> None:
    content = view.get(content_key(terms.checkpoint_root))
    if content is None:
        message = f"found {terms.checkpoint_root.hex()}, expected a registered checkpoint"
        raise InvalidTransaction("inference-checkpoint", message)
    get_model(view, content.name)
    _validate_until(scope, "inference-deadline", terms.deadline)
    escrow = compute_inference_cost(terms, scope.context.parameters)
    apply_debit(view, sender, escrow)
    # The sender's nonce has been counted already.
    name = compute_inference_id(scope.context.chain_id, sender, get_account(view, sender).nonce - 1)
    view.put(inference_key(name), Inference(sender, content.name, terms, escrow, (), 0, 0, ()))


def _apply_answer(scope: BlockScope, view: StateView, sender: PublicKey, answer: AnswerInference) -> None:
    inference = get_inference(view, answer.inference)
    if sender != inference.terms.provider:
        raise InvalidTransaction("inference-provider", f"found {sender.hex()}, expected the provider that was asked")
    if inference.answers:
        raise InvalidTransaction("inference-answered", "found an answer, expected none yet")
    _validate_until(scope, "inference-deadline", inference.terms.deadline)
    if answer.tokens > inference.terms.tokens:
        message = f"found {answer.tokens} bytes, expected at most {inference.terms.tokens}"
        raise InvalidTransaction("inference-tokens", message)
    deposit = scope.context.parameters.deposit
    apply_debit(view, sender, deposit)
    last_height = scope.draft.height + DISPUTE_BLOCKS
    changed = replace(inference, answers=(answer,), deposit=deposit, last_height=last_height)
    view.put(inference_key(answer.inference), changed)


def _apply_challenge(scope: BlockScope, view: StateView, sender: PublicKey, place: ChallengeAnswer) -> None:
    inference = get_inference(view, place.inference)
    _get_answer(inference)
    if inference.challenges:
        raise InvalidTransaction("inference-challenged", "found a challenge that waits, expected none")
    _validate_until(scope, "inference-window", inference.last_height)
    deposit = compute_challenge_deposit(scope.context.parameters)
    apply_debit(view, sender, deposit)
    challenge = Challenge(sender, place, scope.draft.height, deposit)
    view.put(inference_key(place.inference), replace(inference, challenges=(challenge,)))


def _apply_open(scope: BlockScope, view: StateView, shown: OpenAnswer) -> None:
    inference = get_inference(view, shown.inference)
    answer, challenge = _get_answer(inference), _get_challenge(inference)
    _validate_until(scope, "inference-window", challenge.height + OPEN_BLOCKS)
    terms = inference.terms
    claim = AnswerClaim(
        spec_hash=get_model(view, inference.model).terms.spec_hash,
        checkpoint_root=terms.checkpoint_root,
        request_hash=terms.request_hash,
        answer_hash=answer.answer_hash,
        trace_root=answer.trace_root,
        tokens=answer.tokens,
    )
    try:
        scope.learning.verify_answer_opening(claim, challenge.place, shown)
    except InvalidProof as error:
        raise InvalidTransaction(error.rule, str(error)) from None
    apply_halves(view, challenge.deposit, terms.provider)
    last_height = scope.draft.height + DISPUTE_BLOCKS
    view.put(inference_key(shown.inference), replace(inference, challenges=(), last_height=last_height))


def _apply_close(scope: BlockScope, view: StateView, close: CloseInference) -> None:
    inference, height = get_inference(view, close.inference), scope.draft.height
    end = _compute_end(inference)
    if height <= end:
        raise InvalidTransaction("inference-early", f"found height {height}, expected at least {end + 1}")
    if inference.challenges:
        _apply_forfeit(view, inference)
    elif inference.answers:
        _apply_payout(view, inference, inference.answers[0])
    else:
        apply_credit(view, inference.requester, inference.escrow)
    view.delete(inference_key(close.inference))


def _compute_end(inference: Inference) -> int:
    """Return the last height at which the one whose turn it is may act."""
    if inference.challenges:
        return inference.challenges[0].height + OPEN_BLOCKS
    return inference.last_height if inference.answers else inference.terms.deadline


def _apply_forfeit(view: StateView, inference: Inference) -> None:
    """Give the escrow back and share out the deposit of a provider that did not open."""
    challenge = inference.challenges[0]
    apply_credit(view, inference.requester, inference.escrow)
    apply_credit(view, challenge.challenger, challenge.deposit)
    apply_halves(view, inference.deposit, challenge.challenger)


def _apply_payout(view: StateView, inference: Inference, answer: AnswerInference) -> None:
    """Pay for the bytes that were answered: the provider's part, the model's, and the rest back."""
    terms = inference.terms
    paid = terms.price * answer.tokens
    part = compute_part(paid, terms.provider_bp)
    apply_credit(view, terms.provider, inference.deposit + part)
    apply_payment(view, inference.model, paid - part)
    apply_credit(view, inference.requester, inference.escrow - paid)


def _get_answer(inference: Inference) -> AnswerInference:
    if not inference.answers:
        raise InvalidTransaction("inference-unanswered", "found no answer, expected one")
    return inference.answers[0]


def _get_challenge(inference: Inference) -> Challenge:
    if not inference.challenges:
        raise InvalidTransaction("inference-unchallenged", "found no challenge, expected one that waits")
    return inference.challenges[0]


def _validate_until(scope: BlockScope, rule: str, height: int) -> None:
    if scope.draft.height > height:
        raise InvalidTransaction(rule, f"found height {scope.draft.height}, expected at most {height}")


def _validate_at_least_one(rule: str, found: int) -> None:
    if not found:
        raise InvalidTransaction(rule, "found 0, expected at least 1")
