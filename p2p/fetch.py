"""Fetching content by hash: which peer is asked for what, and what happens when it does not answer.

Every item is asked of one peer at a time. A peer that owes items and delivers none stalls: it is charged once, all it
owes goes to others, and its next stall takes twice as long to be called one. What somebody more prompt offers too does
not wait for that. Transactions are small and many, so they have a lane of their own. It knows nothing else of what
items mean.
"""

from dataclasses import dataclass, field

from p2p.actions import Action, Charge, Peer, Send
from p2p.limits import Limits
from p2p.messages import ITEMS_MAX, GetData, Item, ItemKind
from p2p.score import Fault

ATTEMPTS_MAX = 8
LATE_ITEMS_MAX = 1_024
REST_MS = 1_000
"""How long a peer that stalled is not asked, so that others come first."""

DEADLINE_STALLS = 5
"""An item not delivered within this many stall times is a stall, whatever else its peer delivers."""


@dataclass(slots=True)
class _Want:
    candidates: list[Peer]
    asked: Peer | None = None
    attempts: int = 0


@dataclass(slots=True)
class _Lane:
    """What one peer may be asked next, and what it owes (item -> when it was asked), at most `asked_max`."""

    asked_max: int
    queue: dict[Item, None] = field(default_factory=dict)
    asked: dict[Item, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Load:
    """What one peer may be asked and owes, and what it once owed."""

    stall_ms: int
    content: _Lane
    transactions: _Lane
    progress_ms: int = 0
    passed_on_ms: int | None = None
    """When the oldest was asked of what others are asked for in its place, and nothing has come since."""
    rests_until_ms: int = 0
    named: int = 0
    late: dict[Item, int] = field(default_factory=dict)
    """How often each item was asked for in vain: a slow peer answers every time it was asked, each time once."""

    @property
    def lanes(self) -> tuple[_Lane, _Lane]:
        """Both lanes."""
        return self.content, self.transactions

    @property
    def owed(self) -> int:
        """How many items are owed."""
        return len(self.content.asked) + len(self.transactions.asked)

    def add_late(self, item: Item) -> None:
        """Expect an item though it is not waited for any longer."""
        self.late[item] = self.late.pop(item, 0) + 1
        if len(self.late) > LATE_ITEMS_MAX:
            del self.late[next(iter(self.late))]

    def take(self, item: Item) -> bool:
        """Take note that an item came; False when it was not asked for, or came as often as it was."""
        if self.get_lane(item).asked.pop(item, None) is not None:
            return True
        count = self.late.pop(item, 0)
        if count > 1:
            self.late[item] = count - 1
        return count > 0

    def get_lane(self, item: Item) -> _Lane:
        """Return the lane of an item's kind."""
        return self.transactions if item.kind == ItemKind.TRANSACTION else self.content


class Fetcher:
    """Wanted items and the peers that owe them."""

    def __init__(self, limits: Limits) -> None:
        """Start with no peer and no want."""
        self._limits = limits
        self._wants: dict[Item, _Want] = {}
        self._loads: dict[Peer, _Load] = {}

    def add_peer(self, peer: Peer) -> None:
        """Take `peer` as someone to ask."""
        content, transactions = _Lane(self._limits.in_flight_new), _Lane(self._limits.transactions_in_flight_max)
        self._loads[peer] = _Load(self._limits.stall_ms_min, content, transactions)

    def on_good_block(self, peer: Peer) -> None:
        """Ask more at a time of a peer whose block was found good."""
        load = self._loads.get(peer)
        if load is not None:
            load.content.asked_max = min(self._limits.in_flight_max, 2 * load.content.asked_max)

    def drop_peer(self, peer: Peer) -> None:
        """Forget `peer`; what it owed goes to others, without a charge."""
        self._loads.pop(peer, None)
        for item in [item for item, want in self._wants.items() if peer in want.candidates]:
            if self._wants[item].asked == peer:
                self._release(item)
            self._remove_candidate(item, peer)

    def want(self, item: Item, peer: Peer) -> None:
        """Look for `item`, which `peer` may have; a known want gains a candidate, a flood by one peer is cut off."""
        load = self._loads.get(peer)
        if load is None or load.named >= self._limits.wants_per_peer_max:
            return
        want = self._wants.setdefault(item, _Want([]))
        if peer not in want.candidates:
            want.candidates.append(peer)
            load.named += 1
            load.get_lane(item).queue[item] = None

    def is_wanted(self, item: Item) -> bool:
        """Say whether `item` is being looked for."""
        return item in self._wants

    def has_asked(self, peer: Peer) -> bool:
        """Say whether `peer` owes anything, or still may bring something it owed."""
        load = self._loads.get(peer)
        return load is not None and bool(load.owed or len(load.late))

    def count_transactions_owed(self) -> int:
        """Return how many transactions are asked for and not here."""
        return sum(len(load.transactions.asked) for load in self._loads.values())

    def on_received(self, peer: Peer, item: Item, now_ms: int) -> bool:
        """Say whether `item` was asked of `peer`; if so it is no longer looked for."""
        load = self._loads.get(peer)
        if load is None or not load.take(item):
            return False
        load.progress_ms, load.passed_on_ms = now_ms, None
        load.stall_ms = max(self._limits.stall_ms_min, load.stall_ms * 85 // 100)
        self._forget(item)
        return True

    def drop(self, item: Item) -> None:
        """Look for `item` no longer; whoever was asked may still bring it."""
        self._forget(item)

    def on_not_found(self, peer: Peer, items: tuple[Item, ...], now_ms: int) -> None:
        """Ask others for what `peer` does not have; an answer that comes late is one, too."""
        load = self._loads.get(peer)
        for item in items:
            if load is None or not load.take(item):
                continue
            load.progress_ms, load.passed_on_ms = now_ms, None
            want = self._wants.get(item)
            if want is not None and want.asked == peer:
                self._release(item)
            if want is not None and peer in want.candidates:
                self._remove_candidate(item, peer)

    def poll(self, now_ms: int, transactions_max: int) -> list[Action]:
        """Return charges for stalls and the questions to send now, about at most `transactions_max` transactions."""
        actions: list[Action] = []
        for peer, load in self._loads.items():
            if self._is_stalled(load, now_ms):
                actions.append(Charge(peer, Fault.TIMEOUT, f"{load.owed} items owed, none delivered"))
                self._on_stall(load, now_ms)
            elif load.stall_ms > self._limits.stall_ms_min:
                self._pass_on(load, now_ms)
        return actions + self._ask(now_ms, transactions_max)

    def _is_stalled(self, load: _Load, now_ms: int) -> bool:
        since_ms = [next(iter(lane.asked.values())) for lane in load.lanes if lane.asked]
        since_ms += [load.passed_on_ms] if load.passed_on_ms is not None else []
        if not since_ms:
            return False
        oldest_ms = min(since_ms)
        silent_ms = now_ms - max(load.progress_ms, oldest_ms)
        return silent_ms >= load.stall_ms or now_ms - oldest_ms >= DEADLINE_STALLS * load.stall_ms

    def _on_stall(self, load: _Load, now_ms: int) -> None:
        load.rests_until_ms, load.passed_on_ms = now_ms + REST_MS, None
        load.stall_ms = min(self._limits.stall_ms_max, 2 * load.stall_ms)
        owed = [item for lane in load.lanes for item in lane.asked]
        for lane in load.lanes:
            lane.asked.clear()
        for item in owed:
            load.add_late(item)
            want = self._wants[item]
            want.attempts += 1
            self._release(item)
            if want.attempts >= ATTEMPTS_MAX:
                self._forget(item)

    def _pass_on(self, load: _Load, now_ms: int) -> None:
        """Let more prompt peers be asked for what a slow one owes for as long as a first stall takes.

        Else its patience, which grows with every stall, would hold back whatever it was first to name.
        """
        for lane in load.lanes:
            late = [item for item, since_ms in lane.asked.items() if now_ms - since_ms >= self._limits.stall_ms_min]
            for item in late:
                loads = [self._loads[peer] for peer in self._wants[item].candidates if peer in self._loads]
                if any(other.stall_ms < load.stall_ms for other in loads):
                    since_ms = lane.asked.pop(item)
                    load.passed_on_ms = since_ms if load.passed_on_ms is None else min(load.passed_on_ms, since_ms)
                    load.add_late(item)
                    self._release(item)

    def _ask(self, now_ms: int, transactions_max: int) -> list[Action]:
        actions: list[Action] = []
        for peer, load in sorted(self._loads.items(), key=lambda each: each[1].stall_ms):
            if load.rests_until_ms > now_ms:
                continue
            chosen = self._choose(peer, load.content, now_ms, ITEMS_MAX)
            transactions = self._choose(peer, load.transactions, now_ms, min(transactions_max, ITEMS_MAX - len(chosen)))
            transactions_max -= len(transactions)
            if chosen or transactions:
                actions.append(Send(peer, GetData((*chosen, *transactions))))
        return actions

    def _choose(self, peer: Peer, lane: _Lane, now_ms: int, count_max: int) -> list[Item]:
        chosen: list[Item] = []
        while lane.queue and len(lane.asked) < lane.asked_max and len(chosen) < count_max:
            item = next(iter(lane.queue))
            del lane.queue[item]
            want = self._wants[item]
            if want.asked is None:
                want.asked = peer
                lane.asked[item] = now_ms
                chosen.append(item)
        return chosen

    def _release(self, item: Item) -> None:
        """Let any candidate be asked."""
        want = self._wants[item]
        want.asked = None
        for peer in want.candidates:
            if peer in self._loads:
                self._loads[peer].get_lane(item).queue[item] = None

    def _remove_candidate(self, item: Item, peer: Peer) -> None:
        want = self._wants[item]
        want.candidates.remove(peer)
        self._disown(item, peer)
        if not want.candidates:
            self._forget(item)

    def _forget(self, item: Item) -> None:
        want = self._wants.pop(item, None)
        for peer in want.candidates if want is not None else ():
            self._disown(item, peer)

    def _disown(self, item: Item, peer: Peer) -> None:
        load = self._loads.get(peer)
        if load is not None:
            load.named -= 1
            lane = load.get_lane(item)
            lane.queue.pop(item, None)
            if lane.asked.pop(item, None) is not None:
                load.add_late(item)
