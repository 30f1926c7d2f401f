"""The simulated world's own parts: time that only moves when all is quiet, processes, wires, and a disk that keeps."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from benchmarks.lab.simulator.disk import Mount, PowerLost, VirtualDisk, VirtualEngine, VirtualFiles
from benchmarks.lab.simulator.journal import Journal
from benchmarks.lab.simulator.loop import NeverSleeps, Process, VirtualLoop
from benchmarks.lab.simulator.wires import WINDOW_BYTES, Host, VirtualDialler, VirtualListener, VirtualNetwork
from chain.errors import StorageError
from node.surroundings import WirePort

PORT = 1


class Pair:
    """Two hosts, the second listening; what it receives is kept."""

    def __init__(self) -> None:
        self.loop = VirtualLoop(Random(1))
        self.network = VirtualNetwork(self.loop, Random(2), Journal(self.loop.time))
        self.near, self.far = (self.network.add_host(f"{number}.0.0.1", 1 << 20) for number in (40, 41))
        self.received: list[bytes | None] = []
        self.is_reading = True
        self.sent: list[str] = []

    async def listen(self) -> None:
        await VirtualListener(self.far).start("", PORT, self._on_wire)

    async def _on_wire(self, wire: WirePort) -> None:
        while True:
            while not self.is_reading:
                await asyncio.sleep(0.1)
            self.received.append(await wire.receive())
            if self.received[-1] is None:
                return

    async def dial(self) -> WirePort:
        return await VirtualDialler(self.network, self.near).dial(self.far.address, PORT, 5)


def test_waiting_costs_nothing_and_order_is_kept() -> None:
    loop, seen = VirtualLoop(Random(1)), []

    async def wait(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        seen.append((name, loop.time()))

    for name, delay_s in (("late", 7_200.0), ("early", 1.5), ("second", 1.5)):
        loop.create_task(wait(name, delay_s))
    loop.run_until(10_000)
    assert seen == [("early", 1.5), ("second", 1.5), ("late", 7_200.0)]
    assert loop.time() == 10_000


def test_a_thread_runs_later_in_one_piece_and_hands_back_what_it_raises() -> None:
    loop, seen = VirtualLoop(Random(1)), []

    async def work() -> None:
        seen.append(await asyncio.to_thread(lambda: 7))
        with pytest.raises(ValueError, match="no"):
            await asyncio.to_thread(int, "no")
        seen.append(8)

    loop.create_task(work())
    loop.run_until(0)
    assert seen == []
    loop.run_until(10)
    assert seen == [7, 8]


def test_a_loop_that_never_sleeps_is_found() -> None:
    loop = VirtualLoop(Random(1))

    def again() -> None:
        loop.call_soon(again)

    loop.call_soon(again)
    with pytest.raises(NeverSleeps):
        loop.run_until(1)


def test_a_paused_process_stands_still_and_a_killed_one_ends() -> None:
    loop, process, beats = VirtualLoop(Random(1)), Process("beating"), list[float]()
    ended = []

    async def beat() -> None:
        try:
            while True:
                await asyncio.sleep(1)
                beats.append(loop.time())
        finally:
            ended.append(loop.time())

    loop.spawn(process, beat())
    loop.run_until(2.5)
    process.is_paused = True
    loop.run_until(5.5)
    assert beats == [1, 2]
    loop.resume(process)
    loop.run_until(6)
    assert beats == [1, 2, 5.5], "what was due happens at once, and what follows from it later"
    with loop.entered():
        loop.kill(process)
    loop.run_until(20)
    assert (beats[-1], ended, loop.errors) == (5.5, [6], [])
    assert not process.tasks


def test_messages_arrive_in_order_and_an_end_behind_them() -> None:
    pair = Pair()

    async def talk() -> None:
        await pair.listen()
        wire = await pair.dial()
        for number in range(50):
            await wire.send(bytes([number]))
        await wire.close()
        with pytest.raises(ConnectionError):
            await wire.send(b"")

    pair.loop.create_task(talk())
    pair.loop.run_until(60)
    assert pair.received == [*(bytes([number]) for number in range(50)), None]
    assert pair.loop.errors == []


def test_nothing_passes_while_hosts_are_parted_and_all_of_it_afterwards() -> None:
    pair = Pair()

    async def talk() -> None:
        await pair.listen()
        wire = await pair.dial()
        pair.network.part({pair.far.address: 1})
        await wire.send(b"held")
        with pytest.raises(TimeoutError):
            await pair.dial()

    pair.loop.create_task(talk())
    pair.loop.run_until(60)
    assert pair.received == []
    pair.network.part({})
    pair.loop.run_until(61)
    assert pair.received == [b"held"]


def test_a_sender_waits_for_a_reader_that_is_slow() -> None:
    pair = Pair()

    async def talk() -> None:
        await pair.listen()
        wire = await pair.dial()
        pair.is_reading = False
        for _ in range(8):
            await wire.send(bytes(WINDOW_BYTES // 2))
            pair.sent.append("half")

    pair.loop.create_task(talk())
    pair.loop.run_until(60)
    assert len(pair.sent) == 2, "two fill the window"
    pair.is_reading = True
    pair.loop.run_until(120)
    assert len(pair.sent) == 8


def test_what_was_acknowledged_stays_and_what_failed_is_absent() -> None:
    disk = VirtualDisk()
    engine = VirtualEngine(Mount(disk), "disk")
    engine.write({b"a": b"1", b"b": b"2"})
    disk.is_full = True
    with pytest.raises(StorageError, match="No space left"):
        engine.write({b"a": None, b"c": b"3"})
    disk.is_full = False
    assert list(engine.iter_rows(b"")) == [(b"a", b"1"), (b"b", b"2")]
    engine.write({b"a": None})
    assert engine.get(b"a") is None


@pytest.mark.parametrize("is_kept", [False, True])
def test_power_is_lost_before_or_after_a_write_and_never_in_its_middle(is_kept: bool) -> None:
    lost: list[bool] = []
    disk = VirtualDisk(dies_at=2, is_kept=is_kept, on_power_lost=lambda: lost.append(True))
    mount = Mount(disk)
    engine, files = VirtualEngine(mount, "disk"), VirtualFiles(mount)
    files.write(Path("kept"), b"1")
    with pytest.raises(PowerLost):
        engine.write({b"a": b"1", b"b": b"2"})
    assert lost == [True]
    assert len(disk.rows) == (2 if is_kept else 0)
    mount.is_cut = True
    with pytest.raises(StorageError, match="gone"):
        engine.get(b"a")
    assert VirtualFiles(Mount(disk)).read(Path("kept"), 10) == b"1"


def test_a_host_that_breaks_silently_is_not_missed() -> None:
    pair = Pair()

    async def talk() -> None:
        await pair.listen()
        await pair.dial()
        pair.network.break_wires(pair.near, is_silent=True)

    pair.loop.create_task(talk())
    pair.loop.run_until(600)
    assert pair.received == []
    assert isinstance(pair.near, Host)
    assert not pair.near.wires
