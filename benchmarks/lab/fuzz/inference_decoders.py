"""What strangers send to a server of completions, and what they hand over as receipts of its answers.

Nothing is answered: receipts name models that nobody has, and only what they say of themselves is read.
"""

from random import Random

import msgspec

from benchmarks.lab.fuzz.decoder import Decoder, hold_stable
from benchmarks.lab.fuzz.drawing import Scale, draw_record
from benchmarks.lab.fuzz.model_decoders import TINY
from benchmarks.lab.fuzz.text_mutators import JSON_MUTATORS
from chain.errors import DecodeError
from chain.primitives import ZERO_HASH, Hash
from ml.answer import Answer, Request
from ml.answer_checks import AnswerOpening
from ml.spec import compute_spec_hash
from node.inference.completions import ApiError, parse_completion
from node.inference.opening_requests import parse_opening_request
from node.inference.receipt import Receipt, encode_receipt, parse_receipt
from node.models.errors import ModelError
from node.rpc.jsontext import BODY_BYTES_MAX, parse_json


def make_inference_decoders() -> tuple[Decoder, ...]:
    """Return the decoders of receipts and of a completions server's bodies."""
    return (
        Decoder("node.inference.receipt.parse_receipt", hold_stable(parse_receipt, encode_receipt), _list_receipts,
                JSON_MUTATORS, (ModelError,)),
        Decoder("node.inference.completions.parse_completion", _read_completion, _list_completions, JSON_MUTATORS,
                (ApiError, DecodeError), BODY_BYTES_MAX),
        Decoder("node.inference.opening_requests.parse_opening_request", _read_opening_request, _list_opening_requests,
                JSON_MUTATORS, (ApiError, DecodeError)),
    )  # fmt: skip


def _read_completion(data: bytes) -> None:
    parse_completion(parse_json(data))


def _read_opening_request(data: bytes) -> None:
    parse_opening_request(parse_json(data))


def _list_receipts() -> tuple[bytes, ...]:
    rng, root = Random("receipts"), Hash(bytes(range(32)))
    requests = (Request(b"to be", 3, 52_428, 40, 7, (b"\n",)), Request(bytes(16), 1, 0, 0, 2**64 - 1, ()))
    opening = draw_record(AnswerOpening, rng, Scale(40, 2))
    assert isinstance(opening, AnswerOpening)
    receipts = [
        Receipt(TINY, Answer(compute_spec_hash(TINY), root, request, b"abc", ZERO_HASH), (root, ZERO_HASH))
        for request in requests
    ]
    receipts.append(Receipt(TINY, receipts[0].answer, (root,), bytes(root), (opening,)))
    return tuple(map(encode_receipt, receipts))


def _list_completions() -> tuple[bytes, ...]:
    body = {"model": "m", "prompt": "to be"}
    fields = {"max_tokens": 5, "temperature": 0.8, "seed": 7, "top_k": 40, "stop": ["\n", "a"], "n": 1, "user": "u"}
    options = {"stream": True, "stream_options": {"include_usage": True}, "top_p": 1, "logit_bias": {}}
    return tuple(msgspec.json.encode(each) for each in (body, body | fields, body | options))


def _list_opening_requests() -> tuple[bytes, ...]:
    return tuple(
        msgspec.json.encode({"receipt": msgspec.Raw(receipt), "beacon": "12" * 32, "count": 3})
        for receipt in _list_receipts()
    )
