"""From the bytes of a request to the bytes of its response: JSON-RPC 2.0 to the letter, over a registry of methods.

Batches, notifications and error objects follow the specification; a batch is bounded in length and in what its answers
weigh. It knows no HTTP. Source: JSON-RPC 2.0 specification (2013-01-04).
"""

import asyncio
from dataclasses import dataclass

import msgspec

from chain.errors import DecodeError, MathesisError
from node.observability.journal import get_log
from node.rpc.api import NodeApi
from node.rpc.errors import ErrorCode, ErrorData, ErrorObject, RpcError, from_chain_error
from node.rpc.jsontext import Json, parse_json
from node.rpc.registry import Registry

BATCH_MAX = 100
RESPONSE_BYTES_MAX = 16 * 1024 * 1024
"""What the answers of one batch may weigh together; later calls of it get a limit error."""

RequestId = str | int | None
_log = get_log("rpc")


class _Success(msgspec.Struct, frozen=True):
    jsonrpc: str
    result: object
    id: RequestId


class _Failure(msgspec.Struct, frozen=True):
    jsonrpc: str
    error: ErrorObject
    id: RequestId


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    params: Json
    id: RequestId
    is_notification: bool


class Dispatcher:
    """Answers requests by the methods of a registry."""

    def __init__(self, registry: Registry, api: NodeApi) -> None:
        """Serve the methods of `registry` from `api`."""
        self._registry = registry
        self._api = api

    async def respond(self, body: bytes, is_admin: bool) -> bytes | None:
        """Return the response to a request or a batch; None when nothing in it asks for one."""
        try:
            message = parse_json(body)
        except DecodeError as error:
            return encode_failure(RpcError(ErrorCode.PARSE, ErrorData("json", detail=str(error))), None)
        if not isinstance(message, list):
            response, is_wanted = await self._respond_one(message, is_admin)
            return response if is_wanted else None
        if not 0 < len(message) <= BATCH_MAX:
            data = ErrorData("batch-length", found=str(len(message)), expected=f"1 to {BATCH_MAX}")
            return encode_failure(RpcError(ErrorCode.INVALID_REQUEST, data), None)
        return await self._respond_batch(message, is_admin)

    async def _respond_batch(self, batch: list[Json], is_admin: bool) -> bytes | None:
        responses: list[bytes] = []
        size_bytes = 0
        for message in batch:
            if size_bytes > RESPONSE_BYTES_MAX:
                data = ErrorData("response-size", expected=f"at most {RESPONSE_BYTES_MAX} bytes a batch")
                response, is_wanted = _refuse(message, RpcError(ErrorCode.LIMIT, data))
            else:
                response, is_wanted = await self._respond_one(message, is_admin)
                # What nobody wants to hear was as much work.
                size_bytes += len(response)
                # Most calls wait for nothing: all of a batch at once would hold up the whole node.
                await asyncio.sleep(0)
            if is_wanted:
                responses.append(response)
        return b"[" + b",".join(responses) + b"]" if responses else None

    async def _respond_one(self, message: Json, is_admin: bool) -> tuple[bytes, bool]:
        """Return the response to a request, and whether it asks for one."""
        try:
            request = _parse_request(message)
        except RpcError as error:
            return encode_failure(error, _get_id(message)), True
        try:
            result = await self._call(request, is_admin)
            response = msgspec.json.encode(_Success("2.0", result, request.id))
        except RpcError as error:
            response = encode_failure(error, request.id)
        return response, not request.is_notification

    async def _call(self, request: _Request, is_admin: bool) -> object:
        try:
            method = self._registry.get(request.method)
            if method.is_admin and not is_admin:
                data = ErrorData("cookie", expected="the token of the node's rpc-cookie file as a Bearer authorization")
                raise RpcError(ErrorCode.UNAUTHORISED, data)
            return await method.call(self._api, request.params)
        except MathesisError as error:
            remote = from_chain_error(error)
            if remote.code is ErrorCode.INTERNAL:
                _log.exception("call failed", method=request.method)
            raise remote from None
        except Exception:
            # The last line of defence: a bug must neither end the server nor show its insides.
            _log.exception("call failed", method=request.method)
            raise RpcError(ErrorCode.INTERNAL, ErrorData("internal")) from None


def encode_failure(error: RpcError, request_id: RequestId) -> bytes:
    """Return the response that carries an error."""
    return msgspec.json.encode(_Failure("2.0", error.to_object(), request_id))


def _refuse(message: Json, error: RpcError) -> tuple[bytes, bool]:
    is_notification = isinstance(message, dict) and "id" not in message
    return encode_failure(error, _get_id(message)), not is_notification


def _parse_request(message: Json) -> _Request:
    if not isinstance(message, dict):
        raise _invalid("request", type(message).__name__, "an object")
    if message.get("jsonrpc") != "2.0":
        raise _invalid("version", f"{message.get('jsonrpc')!a:.40}", '"2.0"')
    method = message.get("method")
    if not isinstance(method, str):
        raise _invalid("method", type(method).__name__, "a string")
    if "params" in message and not isinstance(message["params"], dict | list):
        raise _invalid("params", type(message["params"]).__name__, "an object or an array")
    if "id" in message and not _is_id(message["id"]):
        raise _invalid("id", type(message["id"]).__name__, "a string, an integer or null")
    return _Request(method, message.get("params"), _get_id(message), "id" not in message)


def _invalid(rule: str, found: str, expected: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_REQUEST, ErrorData(rule, found=found, expected=expected))


def _is_id(value: Json) -> bool:
    if isinstance(value, str):
        return len(value) <= 128 and value.isprintable()
    return value is None or (type(value) is int and -(2**63) <= value < 2**63)


def _get_id(message: Json) -> RequestId:
    value = message.get("id") if isinstance(message, dict) else None
    return value if isinstance(value, str | int | None) and _is_id(value) else None
