"""What an account may ask of the ledger about paid answers of models: ask, answer, challenge, open, close.

Their rules are the ledger's business; here are only their fields. What an answer is, ml alone knows: here it is hashes
and bytes.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U16, U32, U64, Bytes, HashField, PublicKeyField

SPEC_BYTES_MAX = 4096
ANSWER_BYTES_MAX = 24 * 1024
CHECKPOINT_ROOTS_BYTES_MAX = 64 * 1024
ANSWER_OPENING_BYTES_MAX = 132 * 1024


@dataclass(frozen=True, slots=True)
class RequestInference:
    """Escrow `price` atoms for each of at most `tokens` bytes that `provider` answers a request with by `deadline`.

    `provider_bp` basis points of what is paid are the provider's, the rest is income of the checkpoint's model.
    """

    checkpoint_root: HashField
    request_hash: HashField
    provider: PublicKeyField
    provider_bp: U16
    tokens: U16
    price: U64
    deadline: U64


@dataclass(frozen=True, slots=True)
class AnswerInference:
    """Bind the provider to an answer of `tokens` bytes; a deposit stands for it."""

    inference: HashField
    answer_hash: HashField
    trace_root: HashField
    tokens: U16


@dataclass(frozen=True, slots=True)
class ChallengeAnswer:
    """Demand that one place of an answer is opened, an element of an op's output in a pass; a deposit stands for it."""

    inference: HashField
    number: U16
    op: U16
    row: U32
    column: U32
    depth: U32


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """Open the challenged place, with what it takes to verify it: spec, answer, roots of the checkpoint's parts."""

    inference: HashField
    spec: Annotated[bytes, Bytes(1, SPEC_BYTES_MAX)]
    answer: Annotated[bytes, Bytes(1, ANSWER_BYTES_MAX)]
    checkpoint_roots: Annotated[bytes, Bytes(0, CHECKPOINT_ROOTS_BYTES_MAX)]
    opening: Annotated[bytes, Bytes(1, ANSWER_OPENING_BYTES_MAX)]


@dataclass(frozen=True, slots=True)
class CloseInference:
    """Pay out what an inference holds, once nobody can act on it any more; anyone may."""

    inference: HashField


InferenceAction = RequestInference | AnswerInference | ChallengeAnswer | OpenAnswer | CloseInference
