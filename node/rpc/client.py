"""Clients of the RPC: a plain one for programs that wait, an asynchronous one for those that do not.

Both take the methods of `node.rpc.methods`, so that parameters and results have their types, and trust no answer:
what does not match is a `BadAnswer`. The plain one imports no event loop, because commands have to start fast.
"""

import http.client
import itertools
import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec

from chain.errors import MathesisError
from node.exit_codes import CommandError, ExitCode
from node.rpc.errors import ErrorData
from node.rpc.jsontext import Json
from node.rpc.registry import Method
from node.terminal import clean_line

if TYPE_CHECKING:
    import aiohttp

P = TypeVar("P", bound=msgspec.Struct)
R = TypeVar("R")

RESPONSE_BYTES_MAX = 64 * 1024 * 1024
TIMEOUT_S = 30


class NodeUnreachable(CommandError):
    """No node answers at the address."""

    def __init__(self, message: str) -> None:
        """Say where nobody answers, and why."""
        super().__init__(ExitCode.NODE_UNREACHABLE, message)


class BadAnswer(MathesisError):
    """What answered does not speak as a node does."""


class RemoteError(MathesisError):
    """The node answered with an error."""

    def __init__(self, code: int, message: str, data: ErrorData | None) -> None:
        """Keep the error's `code` and typed `data`."""
        super().__init__(clean_line(f"{message}{f' ({data.rule})' if data else ''}{_describe(data)}"))
        self.code = code
        self.data = data


class _Error(msgspec.Struct, frozen=True):
    code: int
    message: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Response(msgspec.Struct, frozen=True):
    jsonrpc: str
    id: str | int | None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Error | None = None


_ids = itertools.count(1)


class RpcClient:
    """Calls a node and waits for each answer."""

    def __init__(self, url: str, token: str = "") -> None:
        """Call the node at `url`; `token` is the cookie for admin methods."""
        parts = split_url(url)
        self.url = url
        self.received_bytes = 0
        """Bytes of all answers so far."""
        self._token = token
        self._path = parts.path or "/"
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = make(parts.hostname or "", parts.port, timeout=TIMEOUT_S)

    def call(self, method: Method[P, R], params: P) -> R:
        """Return the result of a method; raises NodeUnreachable, BadAnswer or RemoteError."""
        request_id = next(_ids)
        return decode_result(self._post(_encode(method.name, params, request_id)), request_id, method.result)

    def call_raw(self, name: str, params: Json) -> Json:
        """Return the result of any method as plain JSON; raises like `call`."""
        request_id = next(_ids)
        return decode_json(self._post(_encode(name, params, request_id)), request_id)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(self, body: bytes) -> bytes:
        try:
            return self._post_once(body)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # The server may have closed an idle connection; a fresh one settles it.
            self._connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.url, error) from None
        try:
            return self._post_once(body)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.url, error) from None

    def _post_once(self, body: bytes) -> bytes:
        try:
            self._connection.request("POST", self._path, body, _make_headers(self._token))
            answer = self._connection.getresponse().read(RESPONSE_BYTES_MAX + 1)
        except BaseException:
            self._connection.close()
            raise
        self.received_bytes += len(answer)
        if len(answer) > RESPONSE_BYTES_MAX:
            self._connection.close()
            raise BadAnswer(f"{self.url} answers with more than {RESPONSE_BYTES_MAX} bytes")
        return answer


class AsyncRpcClient:
    """Calls a node without blocking the event loop; use it with `async with`."""

    def __init__(self, url: str, token: str = "") -> None:
        """Call the node at `url`; `token` is the cookie for admin methods."""
        split_url(url)
        self.url = url
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "AsyncRpcClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def call(self, method: Method[P, R], params: P) -> R:
        """Return the result of a method; raises NodeUnreachable, BadAnswer or RemoteError."""
        request_id = next(_ids)
        answer = await self._post(_encode(method.name, params, request_id))
        return decode_result(answer, request_id, method.result)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, body: bytes) -> bytes:
        import aiohttp  # noqa: PLC0415  # heavy; commands that wait never need it

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        try:
            async with self._session.post(self.url, data=body, headers=_make_headers(self._token)) as response:
                # Added to in place: it comes in hundreds of pieces, and a copy of all for each would hold up the loop.
                answer = bytearray()
                while not response.content.at_eof() and len(answer) <= RESPONSE_BYTES_MAX:
                    answer += await response.content.read(RESPONSE_BYTES_MAX + 1 - len(answer))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(self.url, error) from None
        if len(answer) > RESPONSE_BYTES_MAX:
            raise BadAnswer(f"{self.url} answers with more than {RESPONSE_BYTES_MAX} bytes")
        return bytes(answer)


def read_token(path: Path) -> str:
    """Return the cookie token of a running node; raises NodeUnreachable when there is none to read."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise NodeUnreachable(f"no readable cookie at {path}; is the node of this directory running?") from None


def split_url(url: str) -> SplitResult:
    """Return the parts of a node's address; raises NodeUnreachable when nothing could be reached there."""
    try:
        parts = urlsplit(url)
        is_plain = url.isprintable() and " " not in url
        # Whoever connects spells the name so; a label that is empty or too long is a ValueError too.
        name = (parts.hostname or "").encode("idna")
        is_valid = is_plain and parts.scheme in ("http", "https") and bool(name) and (parts.port or 1) > 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise NodeUnreachable(f"found {url[:200]!a}, expected an address such as http://127.0.0.1:4611")
    return parts


def _make_headers(token: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    return headers | {"Authorization": f"Bearer {token}"} if token else headers


def _encode(name: str, params: object, request_id: int) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "method": name, "params": params, "id": request_id})


def decode_json(answer: bytes, request_id: int) -> Json:
    """Return the result in a node's answer as plain JSON; raises BadAnswer or RemoteError."""
    raw = _decode_response(answer, request_id)
    try:
        result: Json = json.loads(bytes(raw))
    except (ValueError, RecursionError) as error:
        # Errors of JSON and of Unicode are ValueErrors, and so is that of a number with thousands of digits.
        raise BadAnswer(f"the result cannot be read: {error}") from None
    return result


def decode_result(answer: bytes, request_id: int, kind: type[R]) -> R:
    """Return the result in a node's answer as its type; raises BadAnswer or RemoteError."""
    try:
        return msgspec.json.decode(_decode_response(answer, request_id), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(f"the result is not of its type: {error}") from None


def _decode_response(answer: bytes, request_id: int) -> msgspec.Raw:
    try:
        response = msgspec.json.decode(answer, type=_Response)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswer(f"found {answer[:80]!a}, expected a JSON-RPC response") from None
    if response.error is not None:
        raise RemoteError(response.error.code, response.error.message, _decode_data(response.error.data))
    if response.jsonrpc != "2.0" or response.id != request_id or isinstance(response.result, msgspec.UnsetType):
        raise BadAnswer(f"found a response to request {response.id!r:.40}, expected one to {request_id}")
    return response.result


def _decode_data(raw: msgspec.Raw | msgspec.UnsetType) -> ErrorData | None:
    try:
        return None if isinstance(raw, msgspec.UnsetType) else msgspec.json.decode(raw, type=ErrorData)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _describe(data: ErrorData | None) -> str:
    if data is None:
        return ""
    labelled = (("", data.detail), ("found ", data.found), ("expected ", data.expected))
    text = ", ".join(f"{label}{part}" for label, part in labelled if part)
    return f": {text}" if text else ""


def _unreachable(url: str, error: Exception) -> NodeUnreachable:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return NodeUnreachable(f"no node answers at {url}: {reason}")
