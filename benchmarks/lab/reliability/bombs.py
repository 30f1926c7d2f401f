"""Messages made to hurt, thrown at a real node: frames of every kind at their limits, compressed, endless, too slow.

They come from peers that have shaken hands and from strangers. Another process calls the node meanwhile: its longest
wait is the stall; memory is what the kernel says the node held at most above what it held before, by the peer. Behind
each bomb an honest peer must be let in.
"""

import asyncio
import os
import ssl
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from benchmarks.lab.reliability.callers import Caller, run_caller
from benchmarks.lab.reliability.chains import make_rules
from benchmarks.lab.reliability.directories import prepare
from benchmarks.lab.reliability.guests import join, send
from benchmarks.lab.reliability.live import Live, run_node
from benchmarks.lab.reliability.part import Result, Setup, compute_quantile, tell
from benchmarks.lab.reliability.payloads import iter_frames
from benchmarks.lab.simulator.setting import Setting
from chain.errors import MathesisError
from chain.primitives import Hash
from node.data_directory import DataDirectory
from node.link import Link
from node.transport import Dialler, Wire
from p2p.messages import FRAME_BYTES_MAX, ITEMS_MAX, GetData, Item, ItemKind, Ping

HEIGHT = 8
MEMORY_BYTES_MAX = 64 * 2**20
STALL_MS_MAX = 50.0
IDLE_S = 3.0
THROW_S = 20.0
"""A bomb that is still being thrown then is let go: the node reads it as slowly as it likes."""
ZIPPED_BYTES = 64 * 2**20
PINGS = 5_000
QUESTIONS = 100
STRANGERS = 64
STRANGER_S = 7.0
"""Longer than a handshake may take."""
DRIP_S = 0.25


@dataclass(frozen=True, slots=True)
class Target:
    """Who is hit."""

    live: Live
    setting: Setting
    dialler: Dialler
    head: Hash


@dataclass(frozen=True, slots=True)
class Bomb:
    """One way to hurt, as thrown by one peer, or by one set of strangers."""

    name: str
    throw: Callable[[Target], Awaitable[None]]


def run_bombs(setup: Setup) -> Result:
    """Throw bombs at one node, each in turn."""
    rules, result = make_rules(setup.root / "rules"), Result()
    base = prepare(rules, setup.root / "base", HEIGHT)
    asyncio.run(_run(setup, rules.setting, base.directory, base.head, result))
    return result


def list_bombs() -> list[Bomb]:
    """Return every bomb."""
    frames = [Bomb(name, partial(_throw_frame, data)) for name, data in iter_frames()]
    return [
        *(Bomb(name, throw) for name, throw in _THROWS.items()),
        *frames,
    ]


async def _run(setup: Setup, setting: Setting, directory: DataDirectory, head: Hash, result: Result) -> None:
    bombs, dialler = list_bombs(), Dialler()
    worst = dict.fromkeys(("stall", "memory"), (0.0, "nothing"))
    async with run_node(directory) as live:
        target = Target(live, setting, dialler, head)
        await _visit(target)
        with run_caller(live.rpc.url) as caller:
            await asyncio.sleep(IDLE_S)
            idle_ms = caller.take_ms()
            for seed in setup.seeds:
                bomb = bombs[seed % len(bombs)]
                found = await _measure(target, bomb, caller)
                _judge(bomb, found, max(idle_ms), seed, result)
                for what, value in zip(worst, found, strict=True):
                    worst[what] = max(worst[what], (value, bomb.name))
                result.reached += 1
                tell(setup, result, "bombs")
    await dialler.stop()
    result.figures["an idle call, median and longest"] = f"{compute_quantile(idle_ms, 0.5):.1f}, {max(idle_ms):.1f} ms"
    result.figures["longest call beside a bomb"] = f"{worst['stall'][0]:.0f} ms ({worst['stall'][1]})"
    result.figures["most memory above before"] = f"{worst['memory'][0] / 2**20:.1f} MiB ({worst['memory'][1]})"


async def _measure(target: Target, bomb: Bomb, caller: Caller) -> tuple[float, float]:
    """Throw a bomb; return the longest call meanwhile in milliseconds, and bytes held at most above what was before."""
    target.live.forget_peak()
    before_bytes = target.live.read_memory_bytes()
    caller.take_ms()
    with suppress(OSError, MathesisError):
        async with asyncio.timeout(THROW_S):
            await bomb.throw(target)
    stall_ms = max(caller.take_ms())
    return stall_ms, max(0, target.live.read_memory_bytes("VmHWM") - before_bytes)


def _judge(bomb: Bomb, found: tuple[float, float], idle_ms: float, seed: int, result: Result) -> None:
    stall_ms, memory_bytes = found
    if stall_ms > STALL_MS_MAX + idle_ms:
        result.fail(seed, f"{bomb.name}: a call of {stall_ms:.0f} ms, expected {STALL_MS_MAX:.0f} above {idle_ms:.0f}")
    if memory_bytes > MEMORY_BYTES_MAX:
        result.fail(seed, f"{bomb.name}: {memory_bytes / 2**20:.0f} MiB, expected {MEMORY_BYTES_MAX >> 20} at most")


async def _visit(target: Target) -> None:
    """Be let in, and wait until the node answers."""
    async with join(target.dialler, target.live.p2p, target.setting) as link:
        await _wait_for_answer(link)


async def _wait_for_answer(link: Link) -> None:
    """Wait for the node's next word, or until it has hung up; what was sent before is read by then."""
    with suppress(OSError, MathesisError):
        await send(link, Ping(int.from_bytes(os.urandom(4), "big")))
        async for message in link.receive():
            if type(message).__name__ == "Pong":
                return


async def _throw_frame(data: bytes, target: Target) -> None:
    async with join(target.dialler, target.live.p2p, target.setting) as link:
        await link.wire.send(data)
        await _wait_for_answer(link)
    await _visit(target)


async def _throw_too_large(target: Target) -> None:
    await _throw_frame(b"\x92\x08" + bytes(FRAME_BYTES_MAX), target)


async def _throw_zipped(target: Target) -> None:
    """Send a compressed message, which was never agreed on, of very much nothing."""
    zipped = zlib.compress(bytes(ZIPPED_BYTES), 9)
    async with join(target.dialler, target.live.p2p, target.setting) as link:
        _write_raw(link, 0b1100_0010, zipped)
        await _wait_for_answer(link)
    await _visit(target)


async def _throw_endless(target: Target) -> None:
    """Send a message in pieces of which none is the last."""
    async with join(target.dialler, target.live.p2p, target.setting) as link:
        for number in range(128):
            _write_raw(link, 0b0000_0010 if number == 0 else 0, bytes(1 << 20))
            await asyncio.sleep(0)
        await _wait_for_answer(link)
    await _visit(target)


def _write_raw(link: Link, first_byte: int, data: bytes) -> None:
    """Write a WebSocket frame as it stands, masked with zeros."""
    wire = link.wire
    assert isinstance(wire, Wire)
    transport = wire.socket.get_extra_info("socket") and wire.socket._writer.transport  # type: ignore[union-attr]
    if transport is None or transport.is_closing():
        raise ConnectionError("the node has hung up")
    transport.write(bytes([first_byte, 0xFF]) + len(data).to_bytes(8, "big") + bytes(4) + data)


async def _throw_pings(target: Target) -> None:
    async with join(target.dialler, target.live.p2p, target.setting) as link:
        for number in range(PINGS):
            await send(link, Ping(number))


async def _throw_questions(target: Target) -> None:
    """Ask for the head over and over, and read no answer."""
    async with join(target.dialler, target.live.p2p, target.setting) as link:
        items = tuple(Item(ItemKind.BLOCK, target.head) for _ in range(ITEMS_MAX))
        for _ in range(QUESTIONS):
            await send(link, GetData(items))
    await _visit(target)


async def _throw_strangers(target: Target) -> None:
    """Open many connections that say little: nothing, a byte now and then, half of a request, no handshake."""
    tasks = [asyncio.create_task(_be_strange(target, number)) for number in range(STRANGERS)]
    await asyncio.sleep(STRANGER_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await _visit(target)


async def _be_strange(target: Target, number: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    place = target.live.p2p
    if number % 4 == 3:
        await target.dialler.dial(place.host, place.port, STRANGER_S)
        await asyncio.sleep(STRANGER_S)
        return
    secured = context if number % 4 == 2 else None
    _, writer = await asyncio.open_connection(place.host, place.port, ssl=secured)
    try:
        for byte in b"GET /p2p HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 64:
            await asyncio.sleep(DRIP_S)
            if number % 4:
                writer.write(bytes([byte]))
                await writer.drain()
    finally:
        writer.close()


_THROWS: dict[str, Callable[[Target], Awaitable[None]]] = {
    "slow strangers": _throw_strangers,
    "a frame too large": _throw_too_large,
    "a compressed message": _throw_zipped,
    "an endless message": _throw_endless,
    "pings": _throw_pings,
    "questions without reading": _throw_questions,
}
