"""A rogue that shows branches from genesis which cost it next to nothing, one after another, and claims the most work.

Every header has a real ticket of a key that nobody knows: the first is dated now, so that targets are the easiest there
are until the branch has as many blocks as were due since. It answers as an honest peer would, and never has an end.
"""

from random import Random

from benchmarks.lab.simulator.mining import find_ticket
from benchmarks.lab.simulator.setting import INTERVAL_MS, START_MS, Setting
from benchmarks.lab.simulator.visits import Visit
from chain.codec import encode
from chain.header import Header
from chain.primitives import ZERO_HASH, Hash
from chain.signature import SigningKey
from chain.ticket import TicketOpening
from consensus.header_chain import ChainEntry, HeaderChain
from consensus.header_rules import HeaderContent, make_header
from p2p import messages
from p2p.messages import GetData, GetHeaders, Headers, ItemKind, NotFound, OpeningMessage, Status

TICKETS_MAX = 400
"""Headers that one visit costs at most: real tickets, a millisecond or two each."""


class _LightBranches:
    """Branches of one visit, and the openings of their tickets."""

    def __init__(self, setting: Setting, genesis: Header, random: Random) -> None:
        self.chain, self.openings = HeaderChain(genesis), dict[Hash, TicketOpening]()
        self._setting, self._random = setting, random
        self._key = SigningKey(random.randbytes(32))
        self.tip = self.chain.genesis

    def grow(self, now_ms: int, count: int) -> bool:
        """Add headers to the tip, from genesis again once another would cost work; False when it has cost enough."""
        for _ in range(count):
            if len(self.chain) > TICKETS_MAX:
                return False
            due = (now_ms - START_MS) // INTERVAL_MS
            # From a little before the clock is caught up with, tickets cost what they cost anybody.
            self.tip = self._add(self.tip if self.tip.height < due * 3 // 4 else self.chain.genesis, now_ms)
        return True

    def _add(self, parent: ChainEntry, now_ms: int) -> ChainEntry:
        won = find_ticket(self._setting, parent, self._key, self._random)
        if won is None:
            return self.chain.genesis
        time_ms = max(now_ms + self._random.randrange(1_000), parent.header.foliage.timestamp_ms + 1)
        content = HeaderContent(self._key.public_key, time_ms, ZERO_HASH, ZERO_HASH)
        entry = self.chain.insert(make_header(self._setting.context, parent, won.ticket, content, self._key))
        self.openings[entry.hash] = won.opening
        return entry


async def show_light_branches(visit: Visit) -> None:
    """Claim the most work and show light branches page after page, the work of each header on demand."""
    validator, world = visit.host.validator, visit.host.world
    if validator is None:
        return
    branches = _LightBranches(world.setting, validator.parts.chain.headers.genesis.header, visit.random)
    await visit.tell(Status(1 << 40, 1 << 250))
    while (message := await visit.hear()) is not None:
        if isinstance(message, GetHeaders):
            now_ms = START_MS + int(world.loop.time() * 1000)
            is_more = branches.grow(now_ms, messages.HEADERS_MAX)
            page = (
                branches.chain.get_headers_after(message.locator, branches.tip, messages.HEADERS_MAX) if is_more else ()
            )
            await visit.tell(Headers(tuple(map(encode, page))))
        for item in message.items if isinstance(message, GetData) else ():
            opening = branches.openings.get(item.hash) if item.kind == ItemKind.OPENING else None
            shown = NotFound((item,)) if opening is None else OpeningMessage(item.hash, encode(opening))
            await visit.tell(shown)
