"""What people and programs write as text: JSON-RPC requests and answers, addresses, amounts, rates, seeds, endpoints.

Text of a command line may hold bytes that are no UTF-8, as the system hands them over. Behind the RPC stands a node
that knows nothing: all that is looked at comes before a node is asked.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache
from random import Random
from typing import TypeVar, cast

import click
import msgspec

from benchmarks.lab.fuzz.decoder import Decoder, Unfaithful, hold_stable
from benchmarks.lab.fuzz.drawing import Scale, draw_record
from benchmarks.lab.fuzz.text_mutators import JSON_MUTATORS, TEXT_MUTATORS
from benchmarks.lab.mutations.target import Mutator
from chain.codec import encode
from chain.errors import DecodeError
from chain.primitives import PublicKey
from chain.ticket import Ticket, TicketOpening
from chain.transaction import Transaction
from node.addresses import decode_bech32m, encode_bech32m, format_address, parse_address
from node.cli.output import EndpointType, format_coins, parse_coins
from node.cli.rpc import parse_field
from node.models.errors import ModelError
from node.models.rates import format_rate, parse_rate
from node.options import Endpoint
from node.rpc import client
from node.rpc.api import NodeApi
from node.rpc.client import BadAnswer, NodeUnreachable, RemoteError
from node.rpc.dispatch import Dispatcher
from node.rpc.errors import ErrorCode, RpcError, not_found
from node.rpc.jsontext import BODY_BYTES_MAX, Json, parse_json
from node.rpc.methods import GET_HEADERS, make_registry
from node.rpc.views import HeaderView
from node.training.plan import parse_seed

T = TypeVar("T")

ARGUMENT_BYTES_MAX = 32 * 1024
_HEX = "0x" + "ab" * 32
_ADDRESS = format_address(PublicKey(bytes(range(32))))
_CANDIDATES: tuple[object, ...] = (7, _HEX, _ADDRESS, "Ynl0ZXM=", True, [1, 2, 3], [_HEX], ["Ynl0ZXM="], {})
"""What parameters are tried with until one is of the right type."""


def make_text_decoders() -> tuple[Decoder, ...]:
    """Return the decoders of what comes as text."""
    return (
        Decoder("node.rpc.jsontext.parse_json", hold_stable(parse_json, msgspec.json.encode), _list_documents,
                JSON_MUTATORS, size_bytes_max=BODY_BYTES_MAX),
        Decoder("node.rpc.dispatch.respond", _respond, _list_requests, JSON_MUTATORS, (RpcError, DecodeError),
                BODY_BYTES_MAX),
        Decoder("node.rpc.client.answer", _read_answer, _list_answers, JSON_MUTATORS, (BadAnswer, RemoteError)),
        _make_argument("node.addresses.parse_address", parse_address, format_address, ADDRESS_MUTATORS,
                       (_ADDRESS, format_address(PublicKey(b"\xff" * 32)))),
        _make_argument("node.cli.output.parse_coins", parse_coins, format_coins, TEXT_MUTATORS,
                       ("2.5", "0.000000001", "18446744073.709551615", "7")),
        _make_argument("node.cli.output.endpoint", _parse_endpoint, lambda found: found.text, TEXT_MUTATORS,
                       ("4610", "127.0.0.1:4611", "[::1]:80", "node.example:65535")),
        _make_argument("node.cli.rpc.field", parse_field, _write_field, JSON_MUTATORS,
                       ("block=5", "hash=0xab", 'heights=[1,2,{"a":null}]')),
        _make_argument("node.rpc.client.url", _parse_url, str, TEXT_MUTATORS,
                       ("http://127.0.0.1:4611", "https://[::1]:80/path", "http://node.example")),
        _make_argument("node.models.rates.parse_rate", parse_rate, format_rate, TEXT_MUTATORS,
                       ("0.004", "4e-3", "1", "0.99")),
        _make_argument("node.training.plan.parse_seed", parse_seed, bytes.hex, TEXT_MUTATORS, ("0x1f", "ab" * 32, "0")),
    )  # fmt: skip


def _make_argument(
    name: str,
    parse: Callable[[str], T],
    write: Callable[[T], str],
    mutators: Mapping[str, Mutator],
    samples: tuple[str, ...],
) -> Decoder:
    """Return the decoder of an argument of a command line: what it accepts, written again, reads back as the same."""
    judge = hold_stable(
        lambda data: parse(data.decode(errors="surrogateescape")),
        lambda value: write(value).encode(errors="surrogateescape"),
    )
    refusals = (DecodeError, ModelError, click.UsageError, NodeUnreachable)
    return Decoder(
        name, judge, lambda: tuple(text.encode() for text in samples), mutators, refusals, ARGUMENT_BYTES_MAX
    )


def _parse_url(text: str) -> str:
    client.split_url(text)
    return text


def _write_field(field: tuple[str, Json]) -> str:
    return f"{field[0]}={json.dumps(field[1])}"


def _parse_endpoint(text: str) -> Endpoint:
    return EndpointType().convert(text, None, None)


def _mend_checksum(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Alter what an address says, and put its checksum right."""
    prefix, groups = decode_bech32m(data.decode())
    for _ in range(rng.choice((1, 1, 4))):
        place = rng.randrange(len(groups))
        groups[place : place + 1] = rng.choice(([rng.randrange(32)], [], [rng.randrange(32)] * 2, [0]))
    prefix = rng.choice((prefix, prefix, prefix, "mt", "btc", "m1th"))
    return encode_bech32m(prefix, groups).encode()


def _turn_upper(_rng: Random, data: bytes, _other: bytes) -> bytes:
    return data.upper()


ADDRESS_MUTATORS: Mapping[str, Mutator] = {
    **TEXT_MUTATORS,
    "checksum mended": _mend_checksum,
    "upper case": _turn_upper,
}


class _Stranger:
    """A node that knows nothing of what it is asked."""

    def __getattr__(self, name: str) -> object:
        raise not_found("node", name)


_DISPATCHER = Dispatcher(make_registry(), cast(NodeApi, _Stranger()))


def _respond(body: bytes) -> None:
    """Answer an admin's request; raises DecodeError with an answer that is an error, Unfaithful where that is ours."""
    answering = _DISPATCHER.respond(body, is_admin=True)
    try:
        # Calls of a batch give others their turn in between, and wait for nothing.
        while answering.send(None) is None:
            pass
    except StopIteration as done:
        response: bytes | None = done.value
    else:
        raise Unfaithful("found a call that waits, expected one that a node without answers ends at once")
    if response is None:
        return
    answers = msgspec.json.decode(response)
    for answer in answers if isinstance(answers, list) else [answers]:
        error = answer.get("error")
        if error is not None and error["code"] == ErrorCode.INTERNAL:
            raise Unfaithful("found an internal error, expected one that says what is wrong with the call")
        if error is not None and not isinstance(answers, list) and error["code"] != ErrorCode.NOT_FOUND:
            raise DecodeError(f"{error['code']} {error['data']}")


def _list_documents() -> tuple[bytes, ...]:
    values = (
        b'{"a":[1,2.5,-3e2,null,true,false,"x\\u00e9\\n"],"b":{"c":{}}}', b"[]", b'"\\ud83d\\ude00"', b" 7 ",
        b'[[[[[["deep"]]]]]]', b'{"key":"value","other":"value"}',
    )  # fmt: skip
    return (*values, *_list_requests())


def _list_requests() -> tuple[bytes, ...]:
    """Return a call of every method with parameters that it takes, by name and by position, a batch, a notification."""
    calls: list[dict[str, object]] = []
    for method in make_registry():
        named = {field.name: _find_value(field) for field in msgspec.structs.fields(method.params)}
        for params in (named, list(named.values())):
            calls.append({"jsonrpc": "2.0", "method": method.name, "params": params, "id": len(calls)})
    single = [msgspec.json.encode(call) for call in calls]
    return (*single, msgspec.json.encode(calls[:4]), b'{"jsonrpc":"2.0","method":"chain_getHead"}')


def _find_value(field: msgspec.structs.FieldInfo) -> object:
    """Return a value that a parameter takes: a record's bytes by its name, else the first candidate of its type."""
    for candidate in (_list_record_values().get(field.name), *_CANDIDATES):
        try:
            msgspec.convert(candidate, field.type)
        except msgspec.ValidationError:
            continue
        if candidate is not None:
            return candidate
    raise AssertionError(f"no candidate is a {field.type}")


@cache
def _list_record_values() -> dict[str, str]:
    rng, scale = Random("requests"), Scale(40, 2)
    kinds = {"transaction": Transaction, "ticket": Ticket, "opening": TicketOpening}
    return {name: b64encode(encode(draw_record(kind, rng, scale))).decode() for name, kind in kinds.items()}


def _read_answer(data: bytes) -> None:
    """Read a node's answer as clients do, with its type known and without."""
    client.decode_json(data, 1)
    client.decode_result(data, 1, GET_HEADERS.result)


def _list_answers() -> tuple[bytes, ...]:
    view = HeaderView(
        hash=_HEX, height=1, parent_hash=_HEX, timestamp_ms=5, target=_HEX, total_work="77",
        miner=_ADDRESS, state_root=_HEX, record=b"record",
    )  # fmt: skip
    return tuple(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": [view] * count}) for count in (0, 1, 3))
