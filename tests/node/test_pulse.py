"""One call for all that asked, soon, and with a pause between two."""

import asyncio
from itertools import pairwise

from node.pulse import Pulse

PAUSE_S = 0.05


async def test_many_that_ask_at_once_get_one_call_in_the_next_turn() -> None:
    calls: list[float] = []
    pulse = Pulse(lambda: calls.append(asyncio.get_running_loop().time()), PAUSE_S)
    for _ in range(100):
        pulse.ask()
    assert calls == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(calls) == 1


async def test_whoever_asks_again_waits_for_the_pause() -> None:
    calls: list[float] = []
    pulse = Pulse(lambda: calls.append(asyncio.get_running_loop().time()), PAUSE_S)
    while len(calls) < 3:
        pulse.ask()
        await asyncio.sleep(0)
    gaps = [later - earlier for earlier, later in pairwise(calls)]
    assert all(gap >= PAUSE_S for gap in gaps)


async def test_a_call_that_asks_again_is_made_again() -> None:
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        if len(calls) < 3:
            pulse.ask()

    pulse = Pulse(call, 0.001)
    pulse.ask()
    await asyncio.sleep(0.1)
    assert len(calls) == 3


async def test_nothing_is_called_after_the_stop() -> None:
    calls: list[int] = []
    pulse = Pulse(lambda: calls.append(1), 0.0)
    pulse.ask()
    pulse.stop()
    pulse.stop()
    await asyncio.sleep(0.01)
    assert calls == []
