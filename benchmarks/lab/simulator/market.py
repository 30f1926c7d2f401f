"""Who pays for training and for answers in one run, drawn from its seed: in long ones everybody, in short ones some.

It knows no machine's faults.
"""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from benchmarks.lab.simulator.answers import Buyer, Desk, Provider
from benchmarks.lab.simulator.machine import Machine
from benchmarks.lab.simulator.patrons import Backer, Poster
from benchmarks.lab.simulator.setting import Setting
from benchmarks.lab.simulator.wallet import Wallet, Wish, live
from node.chain import Chain

TASKS_CHANCE, ANSWERS_CHANCE = 0.5, 0.5
"""Of a short run: that tasks are posted in it, and that answers are sold."""
CLOSING_S = 10.0
"""What a run goes on for where answers are sold, so that some of a short one's lies are closed before its end."""


class Party(Protocol):
    """Somebody with a wallet."""

    def decide(self, chain: Chain) -> list[Wish]:
        """Return what is to be sent next, by the head of a node's chain."""
        ...


@dataclass(frozen=True, slots=True)
class Market:
    """The parties of one run by their names in `setting.PEOPLE`, and what two of them know of answers."""

    parties: dict[str, Party]
    desk: Desk

    @property
    def closing_s(self) -> float:
        """Seconds for which the run goes on for it."""
        return CLOSING_S if "buyer" in self.parties else 0.0

    def start(
        self, setting: Setting, machines: Sequence[Machine], make_random: Callable[[str], Random]
    ) -> Iterator[tuple[str, Coroutine[object, object, None]]]:
        """Yield each party's name and what it does until it is cancelled."""
        for name, party in self.parties.items():
            random = make_random(f"wallet {name}")
            wallet = Wallet(setting.context.chain_id, setting.people[name], random)
            yield name, live(wallet, party.decide, machines, random)


def draw_market(setting: Setting, make_random: Callable[[str], Random], *, is_long: bool) -> Market:
    """Return the market of a run; `make_random` gives each party its own source of chance."""
    random, desk, parties = make_random("market"), Desk(), dict[str, Party]()
    if random.random() < TASKS_CHANCE or is_long:
        parties["poster"] = Poster(setting, make_random("poster"))
        parties["backer"] = Backer(setting, make_random("backer"))
    if random.random() < ANSWERS_CHANCE or is_long:
        parties["buyer"] = Buyer(setting, desk, make_random("buyer"))
        parties["provider"] = Provider(desk, make_random("provider"))
    return Market(parties, desk)
