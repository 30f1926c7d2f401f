"""A dishonest server: it stands before any real node's RPC and alters the answers of one method."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import ClientSession, web

Answer = dict[str, object]
Tamper = Callable[[Answer], None]
"""Alters a result in place."""


@dataclass
class TamperingServer:
    """Forwards calls to `upstream`; `tampers` names the methods whose results it alters, one item of a list each."""

    upstream: str
    tampers: dict[str, Tamper]
    url: str = ""
    altered: int = 0

    async def on_request(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {"Content-Type": "application/json"}
        async with ClientSession() as session, session.post(self.upstream, data=body, headers=headers) as response:
            answer = json.loads(await response.read())
        method = json.loads(body)["method"]
        if method in self.tampers and "result" in answer:
            result = answer["result"]
            before = json.dumps(result)
            item = result[len(result) // 2] if isinstance(result, list) and result else result
            if isinstance(item, dict):
                self.tampers[method](item)
            self.altered += json.dumps(result) != before
        return web.json_response(answer)


@asynccontextmanager
async def serve_tampered(upstream: str, tampers: dict[str, Tamper]) -> AsyncIterator[TamperingServer]:
    """Run a tampering server on a free port of loopback."""
    server = TamperingServer(upstream, tampers)
    application = web.Application(client_max_size=1 << 20)
    application.router.add_post("/", server.on_request)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await asyncio.shield(runner.cleanup())
