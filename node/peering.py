"""A node's address book at work: loaded and kept, told by peers, and turned into dials.

The sans-IO parts of `p2p` decide; here they get their clock, their chance and their files. One clock serves them all:
Unix time at the start, then as much as has passed, so that a clock that is set meanwhile disturbs nothing. It opens no
connection.
"""

import asyncio
from dataclasses import dataclass

from node.doorman import Doorman
from node.link import get_now_ms
from node.peer_files import PeerFiles
from node.surroundings import Surroundings
from p2p.address_book import AddressBook
from p2p.address_file import BansRecord, Snapshot, make_book, take_snapshot
from p2p.address_relay import AddressRelay
from p2p.addresses import PeerAddress, Scope, get_scope
from p2p.dialling import Dial, DialPlan, Endpoint
from p2p.limits import Limits

SAVE_MS = 300_000
"""Between two writes of the address book, which also is written at the end."""
ANCHORS_MS = 10_000
"""The same when there are new anchors."""


@dataclass(frozen=True, slots=True)
class PeeringOptions:
    """Whom to ask for addresses, where others are to reach this node (found out if None), and where to keep it all."""

    seeds: tuple[Endpoint, ...] = ()
    advertised: PeerAddress | None = None
    files: PeerFiles | None = None


class Peering:
    """Addresses in and out of one node."""

    def __init__(self, limits: Limits, surroundings: Surroundings, options: PeeringOptions) -> None:
        """Know nobody until `start`."""
        self._limits = limits
        self._surroundings = surroundings
        self._options = options
        self._dials: dict[bytes, Dial] = {}
        self._offset_ms = 0
        self._saved_ms = 0
        self._kept_anchors: tuple[PeerAddress, ...] = ()
        self._make_parts(AddressBook(surroundings.get_random_bytes(32), self.draw, Scope.GLOBAL), (), ())

    def start(self, host: str, statics: tuple[Endpoint, ...], doorman: Doorman) -> None:
        """Load what an earlier run has kept, for a node that listens on `host`."""
        self._offset_ms = self._surroundings.get_time_ms() - get_now_ms()
        files, scope, now_ms = self._options.files, get_scope(host), self.get_now_ms()
        record = files.load_book() if files is not None else None
        bans = files.load_bans() if files is not None else None
        if record is not None:
            self._make_parts(make_book(record, self.draw, scope, now_ms), record.anchors, statics)
        else:
            self._make_parts(AddressBook(self.book.salt, self.draw, scope), (), statics)
        if bans is not None:
            doorman.restore_bans(bans, now_ms)
        self._saved_ms, self._kept_anchors = now_ms, self.plan.get_anchors()

    def get_now_ms(self) -> int:
        """Return the time that these parts live by."""
        return get_now_ms() + self._offset_ms

    def draw(self, below: int) -> int:
        """Return a uniform integer below `below`."""
        return int.from_bytes(self._surroundings.get_random_bytes(8), "little") % below

    def note_nonce(self, nonce: bytes, dial: Dial) -> None:
        """Remember the nonce with which a dial introduces itself."""
        self._dials[nonce] = dial

    def forget_nonce(self, nonce: bytes) -> None:
        """Forget the nonce of a connection that has ended."""
        self._dials.pop(nonce, None)

    def on_own_nonce(self, nonce: bytes) -> None:
        """Learn that somebody of our key came in: if with a dial's nonce, that dial has reached this node itself."""
        if (dial := self._dials.get(nonce)) is not None:
            self.plan.on_self(dial)

    def make_due_records(self, doorman: Doorman) -> list[Snapshot | BansRecord]:
        """Return what has to be written now: the book now and then and with new anchors, bans with new ones."""
        now_ms, anchors = self.get_now_ms(), self.plan.get_anchors()
        records: list[Snapshot | BansRecord] = []
        if doorman.has_new_bans:
            records.append(doorman.make_bans_record(now_ms))
        wait_ms = ANCHORS_MS if anchors != self._kept_anchors else SAVE_MS
        if now_ms - self._saved_ms >= wait_ms:
            self._saved_ms, self._kept_anchors = now_ms, anchors
            records.append(take_snapshot(self.book, anchors))
        return records

    def make_last_records(self, doorman: Doorman) -> list[Snapshot | BansRecord]:
        """Return all there is to be kept."""
        return [take_snapshot(self.book, self.plan.get_anchors()), doorman.make_bans_record(self.get_now_ms())]

    async def keep(self, records: list[Snapshot | BansRecord]) -> None:
        """Write them, in a thread: a full book takes a while."""
        if self._options.files is not None:
            for record in records:
                await asyncio.to_thread(self._options.files.save, record)

    def _make_parts(self, book: AddressBook, anchors: tuple[PeerAddress, ...], statics: tuple[Endpoint, ...]) -> None:
        self.book = book
        self.plan = DialPlan(book, self._limits, self.draw, self._options.seeds, anchors, statics)
        self.addresses = AddressRelay(book, self.draw, self._options.advertised)
        if self._options.advertised is not None:
            book.on_own(self._options.advertised)
