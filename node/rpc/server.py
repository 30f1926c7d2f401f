"""The RPC over HTTP: POST to `/`, on loopback unless told otherwise; beside it, pages for those who watch a node.

A page of another site must not reach a node through its owner's browser: Host and Origin have allow-lists and the body
has to be declared as JSON. Admin methods need the token of a cookie file that only the owner can read.
It knows no method and no page. Source: DNS rebinding and CSRF defences as in Bitcoin Core and go-ethereum.
"""

import asyncio
import errno
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from node.exit_codes import CommandError, ExitCode
from node.options import Endpoint
from node.rpc.dispatch import Dispatcher, encode_failure
from node.rpc.errors import ErrorCode, ErrorData, RpcError
from node.rpc.jsontext import BODY_BYTES_MAX

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
REQUEST_TIMEOUT_S = 30
WRITE_TIMEOUT_S = 30
"""A caller that takes no piece of its answer for so long has gone."""
PIECE_BYTES = 256 * 1024
CALLS_AT_ONCE_MAX = 64
"""Requests being answered together; later ones wait their turn or time out."""

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows at this moment."""

    body: bytes
    content_type: str = "application/json"
    is_good: bool = True
    """Whether the status is 200; otherwise it is 503."""


ReadPage = Callable[[], Page]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where to listen and whom to answer."""

    endpoint: Endpoint
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    token: str = ""
    """The cookie; empty refuses every admin method."""


def make_token() -> str:
    """Return a fresh cookie token, 256 bits of hex."""
    return secrets.token_hex(32)


class RpcServer:
    """One HTTP server in front of a dispatcher."""

    def __init__(
        self, dispatcher: Dispatcher, options: ServerOptions, pages: Mapping[str, ReadPage] | None = None
    ) -> None:
        """Prepare to answer, and to show `pages` by their paths; `start` listens."""
        self._dispatcher = dispatcher
        self.endpoint = options.endpoint
        """Where it listens; its port is the system's choice after `start` when 0 was asked for."""
        self._options = options
        self._hosts = LOOPBACK_HOSTS | {options.endpoint.host} | set(options.hosts)
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE_MAX)
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/", self._on_request)
        for path, read in (pages or {}).items():
            application.router.add_get(path, self._make_handler(read))
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Listen at `endpoint`; raises CommandError when the port is taken."""
        await self._runner.setup()
        endpoint = self._options.endpoint
        try:
            await web.TCPSite(self._runner, endpoint.host, endpoint.port).start()
        except OSError as error:
            await self._runner.cleanup()
            code = ExitCode.PORT_BUSY if error.errno == errno.EADDRINUSE else ExitCode.FAILURE
            reason = "is taken by another program" if code is ExitCode.PORT_BUSY else f"cannot be opened: {error}"
            raise CommandError(code, f"the RPC port {endpoint.text} {reason}") from None
        self.endpoint = Endpoint(endpoint.host, self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening and let requests in progress end, for at most a second."""
        await self._runner.cleanup()

    def _make_handler(self, read: ReadPage) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def show(request: web.Request) -> web.Response:
            refusal = self._refuse_stranger(request)
            if refusal is not None:
                return refusal
            page = read()
            return web.Response(
                status=200 if page.is_good else 503,
                body=page.body,
                headers=_HEADERS | {"Content-Type": page.content_type},
            )

        return show

    async def _on_request(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refuse_stranger(request) or _refuse_form(request)
        if refusal is not None:
            return refusal
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S) as limit, self._slots:
                body = await request.read()
                response = await self._dispatcher.respond(body, self._is_admin(request))
                if response is None:
                    return web.Response(status=204)
                limit.reschedule(None)
                # Within its slot: answers that nobody takes would fill the memory.
                return await _send(request, response)
        except web.HTTPRequestEntityTooLarge:
            return _refuse(413, ErrorCode.LIMIT, "body-size", "a longer body", f"at most {BODY_BYTES_MAX} bytes")
        except ConnectionResetError:
            # The caller has hung up in the middle of its question: nobody reads this.
            return _refuse(400, ErrorCode.INVALID_REQUEST, "hung-up", "no whole body", "one")
        except TimeoutError:
            return _refuse(503, ErrorCode.LIMIT, "time", f"no answer in {REQUEST_TIMEOUT_S} s", "")

    def _refuse_stranger(self, request: web.Request) -> web.Response | None:
        host = get_host_name(request.headers.get("Host", ""))
        if host not in self._hosts:
            return _refuse(403, ErrorCode.UNAUTHORISED, "host", repr(host[:80]), "a host on the allow-list")
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._options.origins:
            return _refuse(403, ErrorCode.UNAUTHORISED, "origin", repr(origin[:80]), "an origin on the allow-list")
        return None

    def _is_admin(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        expected = self._options.token
        # Bytes of a header that are no UTF-8 come as surrogates.
        found = token.encode("utf-8", "surrogateescape")
        return scheme == "Bearer" and expected != "" and secrets.compare_digest(found, expected.encode())


async def _send(request: web.Request, response: bytes) -> web.StreamResponse:
    """Write an answer piece by piece; a caller that takes none for long is cut off."""
    headers = _HEADERS | {"Content-Type": "application/json", "Content-Length": str(len(response))}
    origin = request.headers.get("Origin")
    if origin is not None:
        headers = headers | {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    answer = web.StreamResponse(headers=headers)
    try:
        await answer.prepare(request)
        for start in range(0, len(response), PIECE_BYTES):
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await answer.write(response[start : start + PIECE_BYTES])
        await answer.write_eof()
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    return answer


def _refuse_form(request: web.Request) -> web.Response | None:
    if request.method != "POST":
        return _refuse(405, ErrorCode.INVALID_REQUEST, "http-method", request.method[:20], "POST")
    if request.content_type != "application/json":
        found = repr(request.content_type[:80])
        return _refuse(415, ErrorCode.INVALID_REQUEST, "content-type", found, "application/json")
    length = request.content_length
    if length is not None and length > BODY_BYTES_MAX:
        return _refuse(413, ErrorCode.LIMIT, "body-size", f"{length} bytes", f"at most {BODY_BYTES_MAX} bytes")
    return None


def _refuse(status: int, code: ErrorCode, rule: str, found: str, expected: str) -> web.Response:
    error = RpcError(code, ErrorData(rule, found=found, expected=expected or None))
    # The rest of the body is not read, so the connection cannot be used again.
    return web.Response(
        status=status,
        body=encode_failure(error, None),
        content_type="application/json",
        headers={"Connection": "close"},
    )


def get_host_name(header: str) -> str:
    """Return the host that a Host header names, without its port; "" when it names none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
