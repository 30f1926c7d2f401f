"""What goes wrong in one run, drawn from its seed: which machines, when, for how long; then everything is made good.

Each run draws its own mix of kinds, so that some runs see nothing but crashes and others everything at once. Faults are
functions of the world at a time. It judges nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.lab.simulator.machine import Machine, World
from benchmarks.lab.simulator.schedule import Schedule

HOUR_MS = 3_600_000
LOSS_CHANCE = 0.3
"""Of a message on a lossy line: a third of what is said in one exchange comes late."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What faults act on."""

    world: World
    machines: tuple[Machine, ...]
    random: Random
    untimely: Machine
    """The one whose clock may go wrong: had most been wrong in turn, all heads would be ahead of the time."""

    def pick(self) -> Machine:
        """Return any machine."""
        return self.random.choice(self.machines)


def _part(scene: Scene) -> Callable[[], None]:
    sides = [scene.random.randrange(2) for _ in scene.machines]
    side = {machine.host.address: number for machine, number in zip(scene.machines, sides, strict=True)}
    scene.world.journal.note("part", sides)
    scene.world.network.part(side)
    return lambda: _heal(scene)


def _heal(scene: Scene) -> None:
    scene.world.journal.note("heal")
    scene.world.network.part({})


def _pause(scene: Scene) -> Callable[[], None]:
    machine = scene.pick()
    machine.pause()
    return machine.resume


def _crash(scene: Scene) -> Callable[[], None]:
    machine = scene.pick()
    machine.crash(is_silent=scene.random.random() < 0.5)
    return machine.boot_if_down


def _lose_power_at_a_write(scene: Scene) -> Callable[[], None]:
    machine = scene.pick()
    machine.disk.dies_at = machine.disk.writes + scene.random.randrange(1, 6)
    machine.disk.is_kept = scene.random.random() < 0.5

    def end() -> None:
        machine.disk.dies_at = None
        machine.boot_if_down()

    return end


def _crash_in_a_loop(scene: Scene) -> Callable[[], None]:
    machine, count = scene.pick(), scene.random.randrange(2, 6)

    def again(left: int) -> None:
        machine.crash(is_silent=scene.random.random() < 0.5)
        machine.boot_if_down()
        if left > 1:
            scene.world.loop.call_later(scene.random.uniform(0.05, 3.0), again, left - 1)

    again(count)
    return machine.boot_if_down


def _skew(scene: Scene) -> Callable[[], None]:
    machine = scene.untimely
    machine.skew_ms = scene.random.choice((-HOUR_MS, HOUR_MS, scene.random.randrange(-HOUR_MS, HOUR_MS)))
    scene.world.journal.note("skew", machine.name, machine.skew_ms)

    def end() -> None:
        machine.skew_ms = 0

    return end


def _fill_disk(scene: Scene) -> Callable[[], None]:
    machine = scene.pick()
    machine.disk.is_full = True
    scene.world.journal.note("full", machine.name)

    def end() -> None:
        machine.disk.is_full = False

    return end


def _break_wire(scene: Scene) -> Callable[[], None]:
    wires = scene.world.network.get_wires()
    if wires:
        scene.world.journal.note("break")
        wire = scene.random.choice(wires)
        wire.end()
        wire.other.end()
    return lambda: None


def _lose_packets(scene: Scene) -> Callable[[], None]:
    machine = scene.pick()
    machine.host.loss_chance = LOSS_CHANCE
    scene.world.journal.note("lossy", machine.name)

    def end() -> None:
        machine.host.loss_chance = 0.0

    return end


KINDS: dict[str, Callable[[Scene], Callable[[], None]]] = {
    "partition": _part,
    "pause": _pause,
    "crash": _crash,
    "power loss at a write": _lose_power_at_a_write,
    "crash loop": _crash_in_a_loop,
    "wrong clock": _skew,
    "full disk": _fill_disk,
    "broken wire": _break_wire,
    "lossy line": _lose_packets,
}
"""Each begins a fault and returns what ends it."""


def plan_faults(scene: Scene, kinds: Sequence[str], schedule: Schedule) -> None:
    """Let faults of `kinds` begin and end at random times while it is their time, and then make everything good."""
    if not kinds:
        return
    random, loop, rate = scene.random, scene.world.loop, 1 / schedule.fault_s_mean
    at_s = random.expovariate(rate)
    while at_s < schedule.faults_s:
        lasts_s = min(random.expovariate(rate), schedule.faults_s - at_s)
        loop.call_at(at_s, _begin, scene, random.choice(kinds), lasts_s)
        at_s += random.expovariate(rate)
    loop.call_at(schedule.faults_s, _make_good, scene)


def _begin(scene: Scene, kind: str, lasts_s: float) -> None:
    scene.world.journal.note("fault", kind)
    scene.world.loop.call_later(lasts_s, KINDS[kind](scene))


def _make_good(scene: Scene) -> None:
    _heal(scene)
    for machine in scene.machines:
        machine.skew_ms, machine.disk.is_full, machine.disk.dies_at, machine.host.loss_chance = 0, False, None, 0.0
        machine.resume()
        machine.boot_if_down()
