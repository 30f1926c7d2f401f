"""The completions server over real HTTP: strangers and bad bodies first, then answers, and readers that leave."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ml.answer import Request
from ml.answering import Answering
from node.inference.completions import count_certain, make_choice
from node.inference.jobs import Jobs
from node.inference.receipt import parse_receipt, verify_receipt
from node.inference.server import InferenceServer, ServedModel
from node.inference.serving import ReceiptMaker
from node.models import write_state
from node.models.sample import TextDecoder
from node.options import Endpoint
from node.rpc.jsontext import BODY_BYTES_MAX
from tests.node.test_models import make_state
from tests.support.answers import get_checkpoint_roots, make_answer, make_server

BODY = {"model": "tiny", "prompt": "to be or", "max_tokens": 5, "temperature": 0.8, "top_k": 40, "seed": 7}
Fields = dict[str, Any]


@asynccontextmanager
async def serve(jobs: Jobs | None = None) -> AsyncIterator[tuple[aiohttp.ClientSession, Jobs]]:
    jobs = jobs or Jobs(2, 4)
    model = ServedModel("tiny", ReceiptMaker(make_server("decoder"), get_checkpoint_roots("decoder")), 0)
    server = InferenceServer(model, Endpoint("127.0.0.1", 0), jobs)
    await server.start()
    try:
        async with aiohttp.ClientSession(server.endpoint.url) as session:
            yield session, jobs
    finally:
        await server.stop()


async def post(session: aiohttp.ClientSession, fields: object, path: str = "/v1/completions") -> tuple[int, Fields]:
    async with session.post(path, json=fields) as response:
        return response.status, await response.json()


async def read_events(response: aiohttp.ClientResponse) -> list[str]:
    text = (await response.read()).decode()
    assert text.endswith("\n\n")
    return [event.removeprefix("data: ") for event in text.removesuffix("\n\n").split("\n\n")]


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "other"}, 404, "model"),
        ({"model": 1}, 400, "model"),
        ({"prompt": ["to be"]}, 400, "prompt"),
        ({"prompt": None}, 400, "prompt"),
        ({"prompt": "a" * 16_385}, 400, "prompt"),
        ({"prompt": "caf\u00e9"}, 400, None),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 4_097}, 400, "max_tokens"),
        ({"max_tokens": 5.0}, 400, "max_tokens"),
        ({"max_tokens": True}, 400, "max_tokens"),
        ({"temperature": -1}, 400, "temperature"),
        ({"temperature": 65}, 400, None),
        ({"temperature": 1e99}, 400, "temperature"),
        ({"temperature": 0.001}, 400, None),
        ({"temperature": "0.8"}, 400, "temperature"),
        ({"temperature": True}, 400, "temperature"),
        ({"seed": -1}, 400, "seed"),
        ({"seed": 1 << 64}, 400, "seed"),
        ({"top_k": -1}, 400, "top_k"),
        ({"stop": ""}, 400, "stop"),
        ({"stop": ["a"] * 5}, 400, "stop"),
        ({"stop": [1]}, 400, "stop"),
        ({"stop": "a" * 33}, 400, "stop"),
        ({"stream": 1}, 400, "stream"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"stream": True, "stream_options": {"other": True}}, 400, "stream_options"),
        ({"n": 2}, 400, "n"),
        ({"n": True}, 400, "n"),
        ({"top_p": 0.9}, 400, "top_p"),
        ({"echo": True}, 400, "echo"),
        ({"logprobs": 5}, 400, "logprobs"),
        ({"logit_bias": {"1": 1}}, 400, "logit_bias"),
        ({"temprature": 1}, 400, "temprature"),
    ],
)
async def test_a_bad_field_is_refused_in_openais_shape(change: Fields, status: int, param: str | None) -> None:
    async with serve() as (session, jobs):
        found, fields = await post(session, BODY | change)
        assert found == status
        error = fields["error"]
        assert isinstance(error, dict)
        assert sorted(error) == ["code", "message", "param", "type"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert jobs.running == jobs.waiting == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": NaN}', b'{"n": 1, "n": 1}', b"[" * 1000, b"\xff"])
async def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    async with serve() as (session, _):
        for path in ("/v1/completions", "/v1/openings"):
            async with session.post(path, data=body, headers={"Content-Type": "application/json"}) as response:
                assert response.status == 400
                assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_strangers_and_other_routes_are_refused() -> None:
    async with serve() as (session, _):
        cases = [
            (session.post("/v1/completions", json=BODY, headers={"Host": "evil.example"}), 403),
            (session.post("/v1/completions", json=BODY, headers={"Origin": "https://evil.example"}), 403),
            (session.post("/v1/completions", data=b"{}"), 415),
            (session.post("/v1/completions", json={"prompt": "a" * BODY_BYTES_MAX}), 413),
            (session.get("/v1/completions"), 405),
            (session.get("/v1/nothing"), 404),
            (session.get("/v1/models/other"), 404),
        ]
        for call, status in cases:
            async with call as response:
                assert response.status == status
                assert "error" in await response.json()


async def test_models_and_health() -> None:
    async with serve() as (session, _):
        async with session.get("/v1/models") as response:
            models = await response.json()
        assert [model["id"] for model in models["data"]] == ["tiny"]
        assert models["data"][0]["mathesis"]["checkpoint_root"] == make_answer("decoder").answer.checkpoint_root.hex()
        async with session.get("/v1/models/tiny") as response:
            assert await response.json() == models["data"][0]
        async with session.get("/health") as response:
            assert await response.json() == {"status": "ok", "running": 0, "waiting": 0}


async def test_an_answer_has_its_text_its_counts_and_its_receipt() -> None:
    async with serve() as (session, jobs):
        status, fields = await post(session, BODY)
        assert status == 200
        answer = make_answer("decoder").answer
        receipt = parse_receipt(json.dumps(fields["mathesis"]).encode())
        verify_receipt(receipt)
        assert receipt.answer == answer
        choice = make_choice(TextDecoder(b"to be or").decode(answer.output, is_last=True), "length")
        assert fields["choices"] == [choice]
        assert fields["usage"] == {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}
        assert jobs.running == 0
        again = await post(session, BODY)
        assert again[1]["choices"] == fields["choices"]


async def test_the_callers_beacon_opens_places_of_an_answer_and_of_no_other() -> None:
    async with serve() as (session, _):
        receipt = (await post(session, BODY))[1]["mathesis"]
        assert isinstance(receipt, dict)
        wanted: Fields = {"receipt": receipt, "beacon": "12" * 32, "count": 3}
        status, opened = await post(session, wanted, "/v1/openings")
        assert status == 200
        found = parse_receipt(json.dumps(opened).encode())
        assert (len(found.openings), found.beacon.hex()) == (3, "12" * 32)
        verify_receipt(found)
        for change in (
            {"beacon": "12"},
            {"beacon": "zz"},
            {"count": 0},
            {"count": 65},
            {"other": 1},
            {"receipt": receipt | {"output": "AAAA"}},
            {"receipt": receipt | {"trace_root": "12" * 32}},
        ):
            status, fields = await post(session, wanted | change, "/v1/openings")
            assert status == 400
            assert "error" in fields


@pytest.mark.parametrize("has_usage", [False, True])
async def test_a_stream_adds_up_to_the_answer(has_usage: bool) -> None:
    async with serve() as (session, jobs):
        whole = (await post(session, BODY))[1]
        options = {"stream_options": {"include_usage": True}} if has_usage else {}
        async with session.post("/v1/completions", json=BODY | {"stream": True} | options) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            events = await read_events(response)
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        assert len({chunk["id"] for chunk in chunks}) == 1
        if has_usage:
            assert chunks.pop()["usage"] == whole["usage"]
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "length"
        assert chunks[-1]["mathesis"] == whole["mathesis"]
        assert jobs.running == 0


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_stop_is_not_part_of_the_text(is_stream: bool) -> None:
    output = make_answer("decoder").answer.output
    stop = output[2:4].decode("ascii")
    async with serve() as (session, _):
        async with session.post("/v1/completions", json=BODY | {"stop": stop, "stream": is_stream}) as response:
            if not is_stream:
                fields = await response.json()
                assert fields["usage"]["completion_tokens"] == output.find(stop.encode()) + 2
                choices = fields["choices"]
            else:
                choices = [json.loads(event)["choices"][0] for event in (await read_events(response))[:-1]]
        whole = (await post(session, BODY))[1]["choices"][0]["text"]
        assert choices[-1]["finish_reason"] == "stop"
        assert len("".join(choice["text"] for choice in choices)) == output.find(stop.encode())
        assert whole.startswith("".join(choice["text"] for choice in choices))


def test_bytes_that_may_begin_a_stop_are_held_back() -> None:
    request = Request(b"a", 9, 0, 0, 0, (b"abc", b"cd"))
    outputs = (b"", b"x", b"xa", b"xab", b"xabc", b"xac", b"xabd")
    assert [count_certain(request, output) for output in outputs] == [0, 1, 1, 1, 1, 2, 4]


class SlowDraws:
    """Makes every pass take so long that a test can act in between."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, delay_s: float) -> None:
        import time

        self.count, draw = 0, Answering.draw

        def draw_slowly(answering: Answering) -> int:
            self.count += 1
            time.sleep(delay_s)
            return draw(answering)

        monkeypatch.setattr(Answering, "draw", draw_slowly)


async def wait_idle(jobs: Jobs) -> None:
    async with asyncio.timeout(10):
        while jobs.running or jobs.waiting:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_whoever_leaves_in_the_middle_frees_his_slot(is_stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowDraws(monkeypatch, 0.02)
    async with serve(Jobs(1, 0)) as (session, jobs):
        call = asyncio.ensure_future(
            session.post("/v1/completions", json=BODY | {"max_tokens": 4000, "stream": is_stream})
        )
        while slow.count < 3:
            await asyncio.sleep(0.01)
        assert jobs.running == 1
        if is_stream:
            response = await call
            await response.content.readany()
            response.close()
        else:
            call.cancel()
        await wait_idle(jobs)
        assert slow.count < 1000
        assert (await post(session, BODY | {"max_tokens": 1}))[0] == 200


async def test_more_than_may_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    SlowDraws(monkeypatch, 0.05)
    async with serve(Jobs(1, 1)) as (session, jobs):
        calls = [asyncio.ensure_future(post(session, BODY)) for _ in range(4)]
        found = sorted([status for status, _ in await asyncio.gather(*calls)])
        assert found == [200, 200, 503, 503]
        assert jobs.running == jobs.waiting == 0


async def test_an_answer_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    SlowDraws(monkeypatch, 0.05)
    async with serve(Jobs(1, 1, timeout_s=0.12)) as (session, jobs):
        status, fields = await post(session, BODY | {"max_tokens": 4000})
        assert (status, fields["error"]["code"]) == (503, "timeout")
        async with session.post("/v1/completions", json=BODY | {"max_tokens": 4000, "stream": True}) as response:
            events = await read_events(response)
        assert json.loads(events[-1])["error"]["code"] == "timeout"
        assert jobs.running == 0


async def test_the_program_listens_and_stops_on_a_signal(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    write_state(path, make_state("decoder"))
    command = [sys.executable, "-m", "node.cli", "model", "serve", str(path), "--port", "0", "--json"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(120):
            facts = json.loads(await process.stdout.readline())
        assert facts["checkpoint_root"] == make_answer("decoder").answer.checkpoint_root.hex()
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{facts['url']}/completions", json=BODY) as response:
                assert response.status == 200
            async with session.post(
                f"{facts['url']}/completions", json=BODY | {"max_tokens": 4096, "stream": True}
            ) as response:
                await response.content.readline()
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(10):
                    rest = (await response.read()).decode()
            assert '"code":"stopping"' in rest
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_port_that_is_taken_is_an_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    write_state(path, make_state("decoder"))
    async with serve() as (session, _):
        port = str((await session.get("/health")).url.port)
        command = [sys.executable, "-m", "node.cli", "model", "serve", str(path), "--port", port]
        process = await asyncio.create_subprocess_exec(
            *command, stderr=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.getcwd()}
        )
        async with asyncio.timeout(120):
            _, text = await process.communicate()
        assert process.returncode == 4
        assert b"cannot listen" in text
