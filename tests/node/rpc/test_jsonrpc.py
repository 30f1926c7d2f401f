"""JSON-RPC 2.0 to the letter: every example of the specification, and bodies made to hurt."""

import asyncio
import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import DecodeError, InvalidTransaction
from node.rpc.api import NodeApi
from node.rpc.dispatch import BATCH_MAX, Dispatcher
from node.rpc.errors import ErrorCode
from node.rpc.jsontext import BODY_BYTES_MAX, CONTAINERS_MAX, DEPTH_MAX, parse_json
from node.rpc.registry import Method, Params, Registry, make_openrpc


class Subtract(Params, frozen=True):
    minuend: int
    subtrahend: int


class Numbers(Params, frozen=True):
    a: int = 0
    b: int = 0
    c: int = 0


class Text(Params, frozen=True):
    text: str


async def subtract(_: NodeApi, params: Subtract) -> int:
    return params.minuend - params.subtrahend


async def add(_: NodeApi, params: Numbers) -> int:
    return params.a + params.b + params.c


async def get_data(_: NodeApi, __: Params) -> list[object]:
    return ["hello", 5]


async def refuse(_: NodeApi, params: Text) -> str:
    raise InvalidTransaction("nonce", f"found {params.text}, expected 7")


async def crash(_: NodeApi, __: Params) -> str:
    raise KeyError("a secret path /root")


METHODS = (
    Method("subtract", "Subtract.", Subtract, int, subtract),
    Method("sum", "Add.", Numbers, int, add),
    Method("update", "Add.", Numbers, int, add),
    Method("notify_hello", "Add.", Numbers, int, add),
    Method("get_data", "Data.", Params, list[object], get_data),
    Method("refuse", "Refuse.", Text, str, refuse),
    Method("crash", "Crash.", Params, str, crash),
    Method("admin", "Guarded.", Params, list[object], get_data, is_admin=True),
)


class Nothing:
    """A node that no method here asks anything of."""


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher(Registry(METHODS), Nothing())  # type: ignore[arg-type]  # no method here asks the node


async def ask(dispatcher: Dispatcher, body: str | bytes, is_admin: bool = False) -> object:
    answer = await dispatcher.respond(body.encode() if isinstance(body, str) else body, is_admin)
    return None if answer is None else strip_data(json.loads(answer))


def strip_data(answer: object) -> object:
    """Drop the typed data, which the specification leaves to the server."""
    for item in answer if isinstance(answer, list) else [answer]:
        assert isinstance(item, dict)
        item.get("error", {}).pop("data", None)
    return answer


def failure(code: int, message: str, request_id: object = None) -> object:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": request_id}


def success(result: object, request_id: object) -> object:
    return {"jsonrpc": "2.0", "result": result, "id": request_id}


INVALID = failure(-32600, "Invalid Request")

SPECIFICATION = [
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', success(19, 1)),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}', success(-19, 2)),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        success(19, 3),
    ),
    (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        success(19, 4),
    ),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', failure(-32601, "Method not found", "1")),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', failure(-32700, "Parse error")),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]',
        failure(-32700, "Parse error"),
    ),
    ("[]", INVALID),
    ("[1]", [INVALID]),
    ("[1,2,3]", [INVALID] * 3),
    (
        """[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}]""",
        [
            success(7, "1"),
            success(19, "2"),
            INVALID,
            failure(-32601, "Method not found", "5"),
            success(["hello", 5], "9"),
        ],
    ),
    (
        '[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},'
        '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}]',
        None,
    ),
]


@pytest.mark.parametrize(("request_text", "expected"), SPECIFICATION)
async def test_every_example_of_the_specification(dispatcher: Dispatcher, request_text: str, expected: object) -> None:
    assert await ask(dispatcher, request_text) == expected


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        ('{"minuend": "42", "subtrahend": 23}', "parameter-type"),
        ('{"minuend": true, "subtrahend": 23}', "parameter-type"),
        ('{"minuend": 42.0, "subtrahend": 23}', "parameter-type"),
        ('{"minuend": null, "subtrahend": 23}', "parameter-type"),
        ('{"minuend": 42}', "parameter-type"),
        ('{"minuend": 42, "subtrahend": 23, "more": 1}', "parameter-type"),
        ("[1, 2, 3]", "too-many-parameters"),
    ],
)
async def test_types_are_strict(dispatcher: Dispatcher, params: str, rule: str) -> None:
    answer = await dispatcher.respond(
        f'{{"jsonrpc": "2.0", "method": "subtract", "params": {params}, "id": 1}}'.encode(), False
    )
    assert answer is not None
    error = json.loads(answer)["error"]
    assert (error["code"], error["data"]["rule"]) == (ErrorCode.INVALID_PARAMS, rule)


@pytest.mark.parametrize(
    "member",
    ['"jsonrpc": "1.0"', '"jsonrpc": 2.0', '"id": 1.5', '"id": true', '"id": []', '"id": {}', '"params": null'],
)
async def test_wrong_members_are_invalid_requests(dispatcher: Dispatcher, member: str) -> None:
    fields = {"jsonrpc": '"jsonrpc": "2.0"', "method": '"method": "get_data"', "id": '"id": 1'}
    fields[member.split('"')[1]] = member
    answer = await ask(dispatcher, "{" + ", ".join(fields.values()) + "}")
    assert isinstance(answer, dict)
    assert answer["error"]["code"] == ErrorCode.INVALID_REQUEST


async def test_an_error_of_the_chain_carries_its_rule(dispatcher: Dispatcher) -> None:
    answer = await dispatcher.respond(
        b'{"jsonrpc": "2.0", "method": "refuse", "params": ["5"], "id": null}', is_admin=False
    )
    assert answer is not None
    error = json.loads(answer)["error"]
    assert error["code"] == ErrorCode.REFUSED
    assert error["data"] == {"rule": "nonce", "detail": "found 5, expected 7"}


async def test_a_bug_shows_no_insides(dispatcher: Dispatcher) -> None:
    answer = await dispatcher.respond(b'{"jsonrpc": "2.0", "method": "crash", "id": 1}', False)
    assert answer is not None
    assert b"secret" not in answer
    assert b"Traceback" not in answer
    assert json.loads(answer)["error"]["code"] == ErrorCode.INTERNAL


async def test_admin_methods_need_the_cookie(dispatcher: Dispatcher) -> None:
    body = '{"jsonrpc": "2.0", "method": "admin", "id": 1}'
    assert await ask(dispatcher, body) == failure(ErrorCode.UNAUTHORISED, "Unauthorised", 1)
    assert await ask(dispatcher, body, is_admin=True) == success(["hello", 5], 1)


async def test_a_batch_is_bounded(dispatcher: Dispatcher) -> None:
    call = '{"jsonrpc": "2.0", "method": "get_data", "id": 1}'
    answer = await ask(dispatcher, f"[{','.join([call] * BATCH_MAX)}]")
    assert isinstance(answer, list)
    assert len(answer) == BATCH_MAX
    assert await ask(dispatcher, f"[{','.join([call] * (BATCH_MAX + 1))}]") == INVALID


async def test_calls_that_want_no_answer_count_against_a_batch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred lists of thousands of headers would be read and written out for a caller who hears none of them."""
    calls = []

    async def read(_: NodeApi, __: Params) -> str:
        calls.append(1)
        return "x" * 1_000

    monkeypatch.setattr("node.rpc.dispatch.RESPONSE_BYTES_MAX", 5_000)
    dispatcher = Dispatcher(Registry((Method("read", "Read.", Params, str, read),)), Nothing())  # type: ignore[arg-type]  # asks nothing
    call = '{"jsonrpc": "2.0", "method": "read"}'
    assert await ask(dispatcher, f"[{','.join([call] * 100)}]") is None
    assert len(calls) == 5


async def test_others_have_their_turn_between_the_calls_of_a_batch(dispatcher: Dispatcher) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other, call = asyncio.create_task(take_turns()), '{"jsonrpc": "2.0", "method": "get_data", "id": 1}'
    await ask(dispatcher, f"[{','.join([call] * 50)}]")
    other.cancel()
    assert turns >= 50


HOSTILE = [
    b"",
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": 1, "a": 2}',
    b'[{"x": {"b": 1, "b": 1}}]',
    b"9" * 10_000,
    b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1),
    b"[" * 500_000,
    b'{"a":' * 100_000,
    b"[" + b"[]," * CONTAINERS_MAX + b"[]]",
    b'"' + b'\\"' * 500_000,
    b" " * (BODY_BYTES_MAX + 1),
    b'{"a": "\xed\xa0\x80"}',
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_bodies_are_parse_errors_and_cheap(dispatcher: Dispatcher, body: bytes) -> None:
    started = time.process_time()
    with pytest.raises(DecodeError):
        parse_json(body)
    assert time.process_time() - started < 0.5
    assert await ask(dispatcher, body) == failure(-32700, "Parse error")


def test_what_is_within_the_limits_passes() -> None:
    assert parse_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    assert parse_json(b'{"a": "[[[[{{{{\\"", "b": "' + b"[" * 100 + b'"}') == {"a": '[[[[{{{{"', "b": "[" * 100}


async def test_a_lone_surrogate_is_refused_and_not_echoed(dispatcher: Dispatcher) -> None:
    for member in (
        '"method": "\\ud800", "id": 1',
        '"method": "node_status", "id": "\\uDFFF"',
        '"method": "\\uD800\\u0041"',
    ):
        answer = await ask(dispatcher, f'{{"jsonrpc": "2.0", {member}}}')
        assert isinstance(answer, dict)
        assert (answer["error"]["code"], answer["id"]) == (ErrorCode.PARSE, None)
    whole = await ask(dispatcher, '{"jsonrpc": "2.0", "method": "\\ud83d\\ude00", "id": 1}')
    assert whole == failure(-32601, "Method not found", 1)


@given(st.binary(max_size=200))
async def test_random_bytes_get_an_answer_or_nothing(body: bytes) -> None:
    dispatcher = Dispatcher(Registry(METHODS), Nothing())  # type: ignore[arg-type]  # no method here asks the node
    answer = await dispatcher.respond(body, False)
    assert answer is None or json.loads(answer)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "jsonrpc": st.just("2.0") | json_values,
            "method": st.sampled_from([method.name for method in METHODS]) | json_values,
            "params": json_values,
            "id": json_values,
        },
    )
)
async def test_random_requests_answer_in_the_form_of_the_specification(message: dict[str, object]) -> None:
    dispatcher = Dispatcher(Registry(METHODS), Nothing())  # type: ignore[arg-type]  # no method here asks the node
    answer = await dispatcher.respond(json.dumps(message).encode(), False)
    if answer is not None:
        response = json.loads(answer)
        assert response["jsonrpc"] == "2.0"
        assert ("result" in response) != ("error" in response)
        assert "id" in response


def test_openrpc_describes_each_method() -> None:
    document = make_openrpc(Registry(METHODS), "1")
    text = msgspec.json.decode(msgspec.json.encode(document))
    assert [method["name"] for method in text["methods"]] == [method.name for method in METHODS]
    assert text["methods"][0]["params"][0] == {"name": "minuend", "required": True, "schema": {"type": "integer"}}


def test_two_methods_cannot_share_a_name() -> None:
    with pytest.raises(AssertionError, match="share a name"):
        Registry((*METHODS, METHODS[0]))
