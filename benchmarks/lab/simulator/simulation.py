"""One run: a seed makes a world of nodes, load, faults and rogues, runs it, and says what held and what did not.

Nothing but the seed decides what happens, so the digest of a run's events is a function of its seed and of the code.
"""

import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from time import process_time

from benchmarks.lab.simulator.books import Books
from benchmarks.lab.simulator.faults import KINDS, Scene, plan_faults
from benchmarks.lab.simulator.healing import Healing
from benchmarks.lab.simulator.invariants import Watch
from benchmarks.lab.simulator.journal import Journal
from benchmarks.lab.simulator.load import use_network
from benchmarks.lab.simulator.loop import PROCESS, NeverSleeps, Process, VirtualLoop
from benchmarks.lab.simulator.machine import InvariantBroken, Machine, UnhandledError, World
from benchmarks.lab.simulator.malice import MALICE
from benchmarks.lab.simulator.market import draw_market
from benchmarks.lab.simulator.memory import remembering
from benchmarks.lab.simulator.rogues import sign_twice, visit_nodes
from benchmarks.lab.simulator.schedule import LONG, get_schedule
from benchmarks.lab.simulator.setting import make_setting
from benchmarks.lab.simulator.wires import VirtualNetwork
from chain.errors import MathesisError

CHECK_S = 1.0
EQUIVOCATOR_CHANCE = 0.15
FORGER_CHANCE = 0.15
ROGUES_MAX = 2
SPEEDS = (1 << 24, 1 << 24, 1 << 20, 1 << 18)
"""Bytes a second of a machine's line; the slowest still carries the block data of a round in a few seconds."""
ROGUE_DELAY_S_MEAN = 0.005
"""A rogue comes close to whom it harms, so that what it says is there before what others say."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a seed."""

    seed: int
    digest: str
    counts: dict[str, int]
    kinds: tuple[str, ...]
    height: int
    deepest_reorg: int
    evidence: int
    """Pairs of headers of one ticket that honest nodes hold at the end."""
    actions: dict[str, int]
    """What was done on the final chain: transactions by kind, rounds settled, blocks of miners that joined, books."""
    healed_s: float | None
    """From the end of all faults to one tip, on virtual clocks that are read once a second."""
    virtual_s: float
    cpu_s: float
    """Processor time: the one thing here that the seed does not decide."""
    failure: InvariantBroken | None


@dataclass(frozen=True, slots=True)
class Focus:
    """Kinds of faults and of malice that a run draws from in place of its own, with rogues about if there is malice."""

    kinds: tuple[str, ...]
    malice: tuple[str, ...]


QUIET = Focus((), ())
"""Nothing fails and nobody means ill, but for miners that forge or sign twice."""


class Simulation:
    """One seed's world."""

    def __init__(self, seed: int, report: Callable[[str], object] | None = None, focus: Focus | None = None) -> None:
        """Draw everything; `report` hears every event as a line."""
        self.seed = seed
        self.loop = VirtualLoop(self._make_random("threads"))
        self.journal = Journal(self.loop.time, report)
        network = VirtualNetwork(self.loop, self._make_random("network"), self.journal)
        self.world = World(self.loop, network, self.journal, make_setting())
        random, schedule = self._make_random("plan"), get_schedule(seed)
        self._market = draw_market(self.world.setting, self._make_random, is_long=schedule is LONG)
        self.schedule = replace(schedule, after_s=schedule.after_s + self._market.closing_s)
        self.machines = tuple(self._make_machine(number, random) for number in range(random.choice((3, 3, 4))))
        self.machines[-1].first_boot_s = random.uniform(0.9, 1.0) * self.schedule.first_boot_s_max
        self.kinds = tuple(sorted(random.sample(sorted(KINDS), random.randrange(len(KINDS) + 1))))
        self.rogues = random.choice((0, 0, 1, ROGUES_MAX))
        self.malice = tuple(sorted(random.sample(sorted(MALICE), random.randrange(1, len(MALICE) + 1))))
        if focus is not None:
            self.kinds, self.malice, self.rogues = focus.kinds, focus.malice, ROGUES_MAX if focus.malice else 0
        self.equivocators = tuple(m for m in self.machines[1:] if random.random() < EQUIVOCATOR_CHANCE)
        for machine in self.equivocators:
            random_twice = self._make_random(f"twice {machine.number}")
            machine.is_rogue, machine.on_boot = True, partial(sign_twice, random=random_twice)
        self._watch = Watch(self.world.setting, self.machines, is_malice_about=bool(self.rogues or self.equivocators))
        self._others: list[Process] = []
        self._evidence = 0
        self._actions = Counter[str]()
        self._healing = Healing(self.schedule)
        self._failure: InvariantBroken | None = None

    def run(self) -> Result:
        """Run to the end or to the first invariant that does not hold."""
        start_cpu_s = process_time()
        with remembering(), _listening(self.world), self.loop.entered():
            try:
                self._run()
            except InvariantBroken as error:
                self._failure = error
            except MathesisError as error:
                self._failure = InvariantBroken("what is committed can be read", str(error))
            except NeverSleeps as error:
                self._failure = InvariantBroken("time goes on", str(error))
            finally:
                height = self._compute_height()
                self._end()
        deepest = max(machine.deepest_reorg for machine in self.machines)
        return Result(
            self.seed,
            self.journal.digest,
            dict(self.journal.counts),
            self.kinds,
            height,
            deepest,
            self._evidence,
            dict(self._actions),
            self._compute_healed_s(),
            self.loop.time(),
            process_time() - start_cpu_s,
            self._failure,
        )

    def _make_random(self, name: str) -> Random:
        return Random(f"{self.seed} {name}")

    def _make_machine(self, number: int, random: Random) -> Machine:
        host = self.world.network.add_host(_make_address(number), random.choice(SPEEDS))
        others = [_make_address(other) for other in range(number)]
        seeds = tuple(random.sample(others, min(len(others), 2)))
        key = self.world.setting.miners[number]
        own, contributing = self._make_random(f"machine {number}"), self._make_random(f"contributor {number}")
        is_forger = number > 0 and contributing.random() < FORGER_CHANCE
        return Machine(self.world, number, host, key, own, contributing, 0.25, seeds, is_forger=is_forger)

    def _run(self) -> None:
        for machine in self.machines:
            self.loop.call_at(machine.first_boot_s, machine.boot_if_down)
        people = use_network(self.world.setting, self.machines, self._make_random("load"))
        self._begin("people", people)
        for name, work in self._market.start(self.world.setting, self.machines, self._make_random):
            self._begin(name, work)
        for number in range(self.rogues):
            random = self._make_random(f"rogue {number}")
            host = self.world.network.add_host(_make_address(100 + number), random.choice(SPEEDS))
            host.delay_s_mean = ROGUE_DELAY_S_MEAN
            self._begin(f"rogue {number}", visit_nodes(self.world, host, self.machines, self.malice, random))
        untimely = self._make_random("clock").choice(self.machines)
        scene = Scene(self.world, self.machines, self._make_random("faults"), untimely)
        plan_faults(scene, self.kinds, self.schedule)
        while self._healing.one_tip_s is None or self.loop.time() < self._healing.one_tip_s + self.schedule.after_s:
            self.loop.run_until(self.loop.time() + CHECK_S)
            self._check()
        is_quiet = not self.kinds and not self.rogues
        books = Books(self.world.setting, self._market.desk.answers, is_quiet=is_quiet)
        self._actions = self._watch.check_replay(books)
        self._evidence = self._watch.check_evidence()
        if is_quiet:
            self._watch.check_shares(books.tasks.pots)

    def _begin(self, name: str, work: Coroutine[object, object, None]) -> None:
        process = Process(name)
        self._others.append(process)
        self.loop.spawn(process, work)

    def _check(self) -> None:
        if self.world.failures:
            raise self.world.failures[0]
        if self.loop.errors:
            raise UnhandledError(self.loop.errors[0])
        self._watch.check_running()
        now_s, tips = self.loop.time(), self._watch.compute_tips()
        if self._healing.look(now_s, tips):
            self.journal.note("healed")
        if self._healing.is_overdue(now_s):
            raise InvariantBroken("one tip after healing", self._describe_tips())
        # What a wrong clock dated ahead is everybody's only when its time has come.
        is_well = self._healing.one_tip_s is not None or not (self.kinds or self.schedule.first_boot_s_max)
        if is_well and "wrong clock" not in self.kinds:
            self._watch.check_spread()

    def _describe_tips(self) -> str:
        heads = [(m.name, m.validator.parts.chain.head if m.validator else None) for m in self.machines]
        shown = [f"{name} {head.height} {head.hash.hex()[:8]}" if head else f"{name} down" for name, head in heads]
        return "found " + ", ".join(shown)

    def _compute_healed_s(self) -> float | None:
        one_tip_s = self._healing.one_tip_s
        return None if one_tip_s is None else one_tip_s - self.schedule.faults_s

    def _compute_height(self) -> int:
        return max((m.validator.parts.chain.head.height for m in self.machines if m.validator is not None), default=0)

    def _end(self) -> None:
        for machine in self.machines:
            self.loop.call_soon(partial(machine.crash, is_silent=True))
        for process in self._others:
            self.loop.kill(process)
        self.loop.run_until(self.loop.time())


def _make_address(number: int) -> str:
    """Return an address that is routable, each in a prefix of its own."""
    return f"{40 + number}.{number}.0.1"


class _ErrorCatcher(logging.Handler):
    """Takes what a node logs as an error for one."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = PROCESS.get()
        # An error that is one of ours, a full disk for instance, is logged without a trace.
        if record.exc_info and (process is None or not process.is_dead):
            self._world.failures.append(UnhandledError(f"{record.getMessage()}: {record.exc_info[1]!r}"))


@contextmanager
def _listening(world: World) -> Iterator[None]:
    """Fail the run on what its nodes log as an error, and keep everything else they log to themselves."""
    log, catcher = logging.getLogger("mathesis"), _ErrorCatcher(world)
    before = log.level, log.propagate
    log.addHandler(catcher)
    log.setLevel(logging.ERROR)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(catcher)
        log.setLevel(before[0])
        log.propagate = before[1]


def run_seed(seed: int, report: Callable[[str], object] | None = None, focus: Focus | None = None) -> Result:
    """Run one seed; `report` hears every event as a line."""
    return Simulation(seed, report, focus).run()
