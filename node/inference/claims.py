"""A paid answer's opening, from the bytes of a transaction: what the ledger asks of machine learning about inference.

Everything comes from a stranger and is bounded before it is used: a spec that no answer may be given by is refused
before its program is written down. Needs no weights, no state and no block.
"""

from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidProof
from chain.inference import ANSWER_BYTES_MAX, ANSWER_OPENING_BYTES_MAX, ChallengeAnswer, OpenAnswer
from chain.ledger.learning import AnswerClaim
from chain.primitives import Hash
from ml.answer import (
    Answer,
    compute_answer_hash,
    compute_request_hash,
    validate_checkpoint_roots,
    validate_size,
)
from ml.answer_checks import AnswerOpening, validate_answer, validate_answer_place, verify_answer_opening
from ml.openings import Place
from ml.spec import Spec, decode_spec
from ml.tensor_tree import DIGEST_BYTES


def verify_claimed_opening(claim: AnswerClaim, challenged: ChallengeAnswer, shown: OpenAnswer) -> None:
    """Check that `shown` is the answer of `claim` and opens the challenged place; raises InvalidProof.

    A challenge of a place that the answer does not have is answered by showing the answer: the rest is not looked at.
    """
    spec, answer, opening = _decode(shown)
    found = (answer.spec_hash, answer.checkpoint_root, compute_request_hash(answer.request), answer.trace_root)
    expected = (claim.spec_hash, claim.checkpoint_root, claim.request_hash, claim.trace_root)
    names = ("spec-hash", "checkpoint-root", "request-hash", "trace-root", "answer-hash")
    pairs = zip(names, (*found, compute_answer_hash(answer)), (*expected, claim.answer_hash), strict=True)
    for name, one, other in pairs:
        if one != other:
            raise InvalidProof(f"claim-{name}", f"found {one.hex()}, expected {other.hex()}")
    if len(answer.output) != claim.tokens:
        raise InvalidProof("claim-tokens", f"found {len(answer.output)} bytes, expected {claim.tokens}")
    validate_answer(spec, answer)
    roots = _split(shown.checkpoint_roots)
    validate_checkpoint_roots(spec, claim.checkpoint_root, roots)
    place = make_place(challenged)
    try:
        validate_answer_place(spec, answer, place)
    except DecodeError:
        return
    verify_answer_opening(spec, answer, roots, place, opening)


def make_place(challenged: ChallengeAnswer) -> Place:
    """Return the place that a challenge names."""
    return Place(challenged.number, challenged.op, challenged.row, challenged.column, challenged.depth)


def make_shown(
    inference: Hash, spec: bytes, answer: Answer, roots: tuple[Hash, ...], opening: AnswerOpening
) -> OpenAnswer:
    """Return the action that opens a place; raises DecodeError when a part does not fit."""
    return OpenAnswer(inference, spec, encode(answer), b"".join(roots), encode(opening))


def _decode(shown: OpenAnswer) -> tuple[Spec, Answer, AnswerOpening]:
    try:
        spec = decode_spec(shown.spec)
        validate_size(spec)
        answer = decode(Answer, shown.answer, ANSWER_BYTES_MAX)
        return spec, answer, decode(AnswerOpening, shown.opening, ANSWER_OPENING_BYTES_MAX)
    except DecodeError as error:
        raise InvalidProof("claim-encoding", str(error)) from None


def _split(roots: bytes) -> tuple[Hash, ...]:
    if len(roots) % DIGEST_BYTES:
        raise InvalidProof("checkpoint-roots", f"found {len(roots)} bytes of roots, expected whole digests")
    return tuple(Hash(roots[start : start + DIGEST_BYTES]) for start in range(0, len(roots), DIGEST_BYTES))
