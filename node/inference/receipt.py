"""Receipts: an answer with what it takes to verify it, as strict JSON.

A receipt names the model by the hash of its spec and the root of its checkpoint, and binds every tensor of every pass
by the trace root. Openings in it are of the places that its beacon draws. It opens no socket and runs no pass.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from chain.codec import decode, encode
from chain.errors import DecodeError, InvalidProof
from chain.primitives import Hash
from ml.answer import (
    PASS_ROOTS_BYTES_MAX,
    Answer,
    Request,
    compute_answer_hash,
    validate_checkpoint_roots,
)
from ml.answer_checks import (
    AnswerOpening,
    compute_answer_challenge,
    draw_answer_places,
    validate_answer,
    verify_answer_opening,
)
from ml.answering import Served, open_answer, verify_answer
from ml.openings import OPENING_BYTES_MAX
from ml.spec import Spec
from node.models.errors import ModelError
from node.models.specs import SpecForm, make_form, make_spec

FORMAT = "mathesis-receipt"
VERSION = 1
RECEIPT_BYTES_MAX = 16 << 20
OPENINGS_MAX = 64
_OPENING_BYTES_MAX = PASS_ROOTS_BYTES_MAX + OPENING_BYTES_MAX + 1024
"""Roots, pieces, and a path of at most 12 digests with its frame."""
NO_BEACON = bytes(32)
"""Draws places from the answer alone. A prover can then try answers until no place hits a lie."""
_HASH = re.compile("[0-9a-f]{64}")


class RequestForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request as JSON; bytes are base64."""

    prompt: bytes
    count: int
    temperature_f16: int
    top_k: int
    seed: int
    stops: tuple[bytes, ...]


class ReceiptForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A receipt as JSON; hashes are hex, bytes base64."""

    format: str
    version: int
    answer_hash: str
    spec: SpecForm
    spec_hash: str
    checkpoint_root: str
    checkpoint_roots: tuple[str, ...]
    request: RequestForm
    output: bytes
    trace_root: str
    beacon: str
    openings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """An answer of a model, the roots of its checkpoint's parts, and openings of what `beacon` draws."""

    spec: Spec
    answer: Answer
    checkpoint_roots: tuple[Hash, ...]
    beacon: bytes = NO_BEACON
    openings: tuple[AnswerOpening, ...] = ()


def make_receipt_form(receipt: Receipt) -> ReceiptForm:
    """Return a receipt as JSON has it."""
    answer, request = receipt.answer, receipt.answer.request
    return ReceiptForm(
        format=FORMAT,
        version=VERSION,
        answer_hash=compute_answer_hash(answer).hex(),
        spec=make_form(receipt.spec),
        spec_hash=answer.spec_hash.hex(),
        checkpoint_root=answer.checkpoint_root.hex(),
        checkpoint_roots=tuple(root.hex() for root in receipt.checkpoint_roots),
        request=RequestForm(**{name: getattr(request, name) for name in RequestForm.__struct_fields__}),
        output=answer.output,
        trace_root=answer.trace_root.hex(),
        beacon=receipt.beacon.hex(),
        openings=tuple(map(encode, receipt.openings)),
    )


def encode_receipt(receipt: Receipt) -> bytes:
    """Return the JSON of a receipt."""
    return msgspec.json.encode(make_receipt_form(receipt), order="deterministic")


def parse_receipt(data: bytes) -> Receipt:
    """Return the receipt that JSON holds, not yet verified; raises ModelError."""
    if len(data) > RECEIPT_BYTES_MAX:
        raise ModelError("bad-file", f"found more than {RECEIPT_BYTES_MAX} bytes, expected a receipt")
    try:
        return make_receipt(msgspec.json.decode(data, type=ReceiptForm))
    except (ValueError, RecursionError) as error:
        raise ModelError("bad-file", f"{error}; this is no receipt") from None


def make_receipt(form: ReceiptForm) -> Receipt:
    """Return the receipt of a form, not yet verified; raises ModelError."""
    if (form.format, form.version) != (FORMAT, VERSION):
        found = f"{form.format!r:.40} {form.version}"
        raise ModelError("bad-file", f"found the format {found}, expected {FORMAT} {VERSION}")
    if len(form.openings) > OPENINGS_MAX:
        raise ModelError("bad-file", f"found {len(form.openings)} openings, expected at most {OPENINGS_MAX}")
    spec, request = make_spec(form.spec), Request(**msgspec.structs.asdict(form.request))
    hashes = [_read_hash(text) for text in (form.spec_hash, form.checkpoint_root, form.trace_root, form.beacon)]
    answer = Answer(hashes[0], hashes[1], request, form.output, hashes[2])
    try:
        # Encoding holds every field against its range.
        decode(Answer, encode(answer), RECEIPT_BYTES_MAX)
        openings = tuple(decode(AnswerOpening, opening, _OPENING_BYTES_MAX) for opening in form.openings)
    except DecodeError as error:
        raise ModelError("bad-file", f"{error}; this is no receipt") from None
    if compute_answer_hash(answer) != _read_hash(form.answer_hash):
        raise ModelError("wrong-digest", f"found the answer hash {form.answer_hash[:16]}, expected another")
    return Receipt(spec, answer, tuple(map(_read_hash, form.checkpoint_roots)), hashes[3], openings)


def read_receipt(path: Path) -> Receipt:
    """Return the receipt in a file, not yet verified; raises ModelError or OSError."""
    with path.open("rb") as file:
        return parse_receipt(file.read(RECEIPT_BYTES_MAX + 1))


def add_openings(served: Served, receipt: Receipt, beacon: bytes, count: int) -> Receipt:
    """Return a receipt with the openings that `beacon` draws; the answer is run again first. Raises InvalidProof."""
    traced = verify_answer(served, receipt.answer)
    challenge = compute_answer_challenge(receipt.answer, beacon)
    places = draw_answer_places(receipt.spec, receipt.answer, challenge, count)
    return replace(receipt, beacon=beacon, openings=open_answer(served, traced, places))


def verify_receipt(receipt: Receipt) -> None:
    """Check all of a receipt that needs no weights; raises InvalidProof."""
    validate_answer(receipt.spec, receipt.answer)
    validate_checkpoint_roots(receipt.spec, receipt.answer.checkpoint_root, receipt.checkpoint_roots)
    challenge = compute_answer_challenge(receipt.answer, receipt.beacon)
    places = draw_answer_places(receipt.spec, receipt.answer, challenge, len(receipt.openings))
    for place, opening in zip(places, receipt.openings, strict=True):
        try:
            verify_answer_opening(receipt.spec, receipt.answer, receipt.checkpoint_roots, place, opening)
        except InvalidProof as error:
            raise InvalidProof(error.rule, f"pass {place.step}, op {place.op}: {error}") from None


def _read_hash(text: str) -> Hash:
    if not _HASH.fullmatch(text):
        raise ModelError("bad-file", f"found {text!r:.80}, expected 64 hex digits")
    return Hash(bytes.fromhex(text))
