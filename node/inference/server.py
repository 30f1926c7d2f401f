"""The completions server: OpenAI's routes over HTTP, every answer with its receipt in the field `mathesis`.

Requests must name an allowed host and come from no web page, as those of the node's RPC. Bodies are bounded before
they are read, answers are computed a pass at a time, and whoever leaves in the middle frees his slot with the next.
"""

import asyncio
import errno
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from aiohttp import web

from chain.errors import DecodeError, InvalidProof
from ml.answering import Answering, Traced
from node.exit_codes import CommandError, ExitCode
from node.inference.completions import (
    ApiError,
    Completion,
    Fields,
    count_certain,
    get_finish_reason,
    make_choice,
    make_text,
    make_usage,
    parse_completion,
    strip_stop,
)
from node.inference.jobs import Job, Jobs
from node.inference.opening_requests import parse_opening_request
from node.inference.receipt import add_openings, make_receipt_form
from node.inference.serving import ReceiptMaker
from node.models.errors import ModelError
from node.models.sample import TextDecoder
from node.options import Endpoint
from node.rpc.jsontext import BODY_BYTES_MAX, Json, parse_json
from node.rpc.server import LOOPBACK_HOSTS, get_host_name

WRITE_TIMEOUT_S = 30
"""A reader that takes nothing for so long has gone."""
SHUTDOWN_TIMEOUT_S = 5.0
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_GONE = (ConnectionError, TimeoutError)
"""How the end of a reader shows."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model under the name that requests call it by."""

    name: str
    maker: ReceiptMaker
    created: int
    """Unix time of its file, in seconds."""


class InferenceServer:
    """One HTTP server in front of one model."""

    def __init__(self, model: ServedModel, endpoint: Endpoint, jobs: Jobs, hosts: tuple[str, ...] = ()) -> None:
        """Prepare to answer; `start` listens. `hosts` are names besides loopback that requests may use."""
        self.endpoint = endpoint
        """Where it listens; its port is the system's choice after `start` when 0 was asked for."""
        self._model, self._jobs = model, jobs
        self._hosts = LOOPBACK_HOSTS | {endpoint.host} | set(hosts)
        application = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._guard])
        application.router.add_get("/health", self._on_health)
        application.router.add_get("/v1/models", self._on_models)
        application.router.add_get("/v1/models/{name}", self._on_model)
        application.router.add_post("/v1/completions", self._on_completion)
        application.router.add_post("/v1/openings", self._on_openings)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)

    async def start(self) -> None:
        """Listen at `endpoint`; raises CommandError when the port is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.endpoint.host, self.endpoint.port).start()
        except OSError as error:
            await self._runner.cleanup()
            code = ExitCode.PORT_BUSY if error.errno == errno.EADDRINUSE else ExitCode.FAILURE
            raise CommandError(code, f"cannot listen on {self.endpoint.text}: {error.strerror}") from None
        self.endpoint = Endpoint(self.endpoint.host, self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening; answers under way end after the pass that they are in."""
        self._jobs.is_stopping = True
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse strangers, and give every refusal OpenAI's shape."""
        try:
            self._refuse_stranger(request)
            return await handler(request)
        except ApiError as error:
            return _refuse(error)
        except web.HTTPRequestEntityTooLarge:
            return _refuse(ApiError(413, f"found a longer body, expected at most {BODY_BYTES_MAX} bytes"))
        except web.HTTPException as error:
            return _refuse(ApiError(error.status, f"{request.method} {request.path[:80]}: {error.reason}"))

    def _refuse_stranger(self, request: web.Request) -> None:
        host = get_host_name(request.headers.get("Host", ""))
        if host not in self._hosts:
            raise ApiError(403, f"found the host {host!r:.80}, expected one on the allow-list", code="host")
        if "Origin" in request.headers:
            raise ApiError(403, "found a request of a web page, expected a program's", code="origin")

    async def _on_health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "running": self._jobs.running, "waiting": self._jobs.waiting})

    async def _on_models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._describe()]}, headers=_HEADERS)

    async def _on_model(self, request: web.Request) -> web.Response:
        self._refuse_other_model(request.match_info["name"])
        return web.json_response(self._describe(), headers=_HEADERS)

    async def _on_completion(self, request: web.Request) -> web.StreamResponse:
        completion = parse_completion(await _read_json(request))
        self._refuse_other_model(completion.model)
        try:
            answering = self._model.maker.start(completion.request)
        except DecodeError as error:
            raise ApiError(400, str(error), code="unanswerable") from None
        async with self._jobs.enter() as job:
            if completion.is_stream:
                return await self._stream(request, completion, answering, job)
            while not answering.is_done:
                if _is_absent(request):
                    raise ApiError(499, "the caller has gone")
                await job.run(answering.draw)
        return web.json_response(self._make_answer(completion, answering.finish()), headers=_HEADERS)

    async def _on_openings(self, request: web.Request) -> web.Response:
        wanted = parse_opening_request(await _read_json(request))
        served = self._model.maker.served
        async with self._jobs.enter() as job:
            try:
                receipt = await job.run(lambda: add_openings(served, wanted.receipt, wanted.beacon, wanted.count))
            except (InvalidProof, DecodeError, ModelError) as error:
                raise ApiError(400, str(error), "receipt", "not_my_answer") from None
        return web.json_response(msgspec.to_builtins(make_receipt_form(receipt)), headers=_HEADERS)

    async def _stream(
        self, request: web.Request, completion: Completion, answering: Answering, job: Job
    ) -> web.StreamResponse:
        """Send an answer piece by piece; what breaks off ends with an error in the stream, its headers being out."""
        response = web.StreamResponse(headers=_HEADERS | {"Content-Type": "text/event-stream; charset=utf-8"})
        head, decoder, sent = self._make_head(), TextDecoder(completion.request.prompt), 0
        try:
            await response.prepare(request)
            while not (answering.is_done or _is_absent(request)):
                await job.run(answering.draw)
                certain = max(sent, count_certain(completion.request, bytes(answering.output)))
                text = decoder.decode(bytes(answering.output[sent:certain]))
                sent = certain
                if text:
                    await _send(response, head | {"choices": [make_choice(text, None)]})
            if answering.is_done:
                await self._send_end(response, completion, answering.finish(), (head, decoder, sent))
            await response.write_eof()
        except ApiError as error:
            with suppress(*_GONE):
                await _send(response, error.body)
                await response.write_eof()
        except _GONE:
            # Nobody reads any more; what is left of the connection is closed by whoever called this.
            pass
        return response

    async def _send_end(
        self,
        response: web.StreamResponse,
        completion: Completion,
        traced: Traced,
        stream: tuple[Fields, TextDecoder, int],
    ) -> None:
        """Send the rest of the text with the receipt, and what was counted if it was asked for."""
        head, decoder, sent = stream
        rest = decoder.decode(strip_stop(completion.request, traced.answer.output)[sent:], is_last=True)
        choice = make_choice(rest, get_finish_reason(traced))
        await _send(response, head | {"choices": [choice], "mathesis": self._make_receipt(traced)})
        if completion.has_usage:
            await _send(response, head | {"choices": [], "usage": make_usage(completion, traced)})
        await _write(response, b"data: [DONE]\n\n")

    def _make_answer(self, completion: Completion, traced: Traced) -> Fields:
        choice = make_choice(make_text(completion, traced.answer.output), get_finish_reason(traced))
        usage = make_usage(completion, traced)
        return self._make_head() | {"choices": [choice], "usage": usage, "mathesis": self._make_receipt(traced)}

    def _make_head(self) -> Fields:
        name = f"cmpl-{secrets.token_hex(12)}"
        return {"id": name, "object": "text_completion", "created": int(time.time()), "model": self._model.name}

    def _make_receipt(self, traced: Traced) -> Json:
        form: Json = msgspec.to_builtins(make_receipt_form(self._model.maker.make_receipt(traced)))
        return form

    def _describe(self) -> Fields:
        served = self._model.maker.served
        own: Fields = {"checkpoint_root": served.checkpoint_root.hex(), "spec_hash": served.spec_hash.hex()}
        head: Fields = {"id": self._model.name, "object": "model", "created": self._model.created}
        return head | {"owned_by": "mathesis", "mathesis": own}

    def _refuse_other_model(self, name: str) -> None:
        if name != self._model.name:
            message = f"found the model {name!r:.80}, expected {self._model.name!r}"
            raise ApiError(404, message, "model", "model_not_found")


async def _read_json(request: web.Request) -> Json:
    if request.content_type != "application/json":
        message = f"found the content type {request.content_type!r:.80}, expected application/json"
        raise ApiError(415, message, code="content_type")
    try:
        return parse_json(await request.read())
    except DecodeError as error:
        raise ApiError(400, str(error), code="invalid_json") from None


async def _send(response: web.StreamResponse, event: Fields) -> None:
    await _write(response, b"data: " + msgspec.json.encode(event) + b"\n\n")


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(data)


def _is_absent(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _refuse(error: ApiError) -> web.Response:
    headers = _HEADERS | ({"Retry-After": "1"} if error.status == 503 else {})
    response = web.json_response(error.body, status=error.status, headers=headers)
    # The rest of a body may be unread, so the connection cannot be used again.
    response.force_close()
    return response
