"""Addresses between peers: who is asked, who is answered, what is passed on, and where this node itself can be reached.

A peer's addresses are taken at a tenth of one a second, beyond an answer that was asked for; fresh ones are passed on
to two peers. This node tells of itself at the address that two peers of different prefixes see, both of them dialled by
us. Time (Unix, milliseconds) and chance are handed in. Source: Bitcoin Core's address relay.
"""

from collections import Counter
from dataclasses import dataclass, field

from chain.hashing import tagged_hash
from p2p.actions import Action, Peer, Send
from p2p.address_book import DAY_MS, AddressBook
from p2p.addresses import Draw, PeerAddress, Scope, SeenAddress, compute_prefix, is_acceptable
from p2p.limits import BoundedSet, TokenBucket
from p2p.messages import ADDRESSES_MAX, Addresses, GetAddresses, Observed
from p2p.slots import SlotKind

ADDRESS_COST = 10
"""Tokens an address costs of a bucket that gains one a second: a tenth of an address a second."""
RELAYED_MAX = 10
"""A longer message is an answer, or nobody's news."""
FRESH_S = 600
RELAY_PEERS = 2
KNOWN_MAX = 2_048
FLUSH_MS = 30_000
"""Mean time that an address waits to be passed on, with others."""
CONFIRMATIONS = 2

AddressMessage = GetAddresses | Addresses | Observed


@dataclass(frozen=True, slots=True)
class Contact:
    """What a connection is for, the peer's IP address as this end sees it, and where it says it listens (or 0)."""

    kind: SlotKind
    ip: bytes
    listen_port: int

    @property
    def address(self) -> PeerAddress:
        """The address at which the peer may be reached by others."""
        return PeerAddress(self.ip, self.listen_port)


@dataclass(slots=True)
class _Peer:
    contact: Contact
    bucket: TokenBucket
    is_asked: bool
    was_answered: bool = False
    flush_ms: int = 0
    announce_ms: int = 0
    known: BoundedSet[PeerAddress] = field(default_factory=lambda: BoundedSet(KNOWN_MAX))
    pending: dict[PeerAddress, int] = field(default_factory=dict)
    """Addresses to pass on, and when a node was seen there."""


class AddressRelay:
    """What all peers tell of addresses."""

    def __init__(self, book: AddressBook, draw: Draw, fixed: PeerAddress | None = None) -> None:
        """Keep addresses in `book`; tell of this node at `fixed`, or at what peers see."""
        self.advertised = fixed
        self.listen_port = 0
        self._is_fixed = fixed is not None
        self._book = book
        self._draw = draw
        self._peers: dict[Peer, _Peer] = {}
        self._votes: dict[Peer, bytes] = {}
        self._sample: tuple[SeenAddress, ...] = ()
        self._sample_until_ms = 0
        self._actions: list[Action] = []

    def add_peer(self, peer: Peer, contact: Contact, now_ms: int) -> None:
        """Take a peer whose handshake is over; block-only ones exchange no addresses."""
        if contact.kind is SlotKind.BLOCK_ONLY:
            return
        is_inbound = contact.kind is SlotKind.INBOUND
        level = ADDRESS_COST if is_inbound else ADDRESS_COST * ADDRESSES_MAX
        bucket = TokenBucket(1, ADDRESS_COST * ADDRESSES_MAX, level)
        state = _Peer(contact, bucket, is_asked=not is_inbound, flush_ms=now_ms + self._draw(2 * FLUSH_MS))
        self._peers[peer] = state
        if not is_inbound:
            self._actions.append(Send(peer, GetAddresses(ADDRESSES_MAX)))
            return
        self._actions.append(Send(peer, Observed(contact.ip)))
        if contact.listen_port:
            state.known.add(contact.address)
            self._book.add(SeenAddress(contact.address, 0), compute_prefix(contact.ip), now_ms)

    def drop_peer(self, peer: Peer) -> None:
        """Forget a peer that left or is no longer listened to."""
        self._peers.pop(peer, None)
        self._votes.pop(peer, None)

    def has_answered(self, peer: Peer) -> bool:
        """Say whether a peer that was asked for addresses has sent some."""
        state = self._peers.get(peer)
        return state is not None and not state.is_asked

    def on_message(self, peer: Peer, message: AddressMessage, now_ms: int) -> None:
        """Act on a message about addresses; nothing is acted on for peers that exchange none."""
        state = self._peers.get(peer)
        if state is None:
            return
        if isinstance(message, GetAddresses):
            self._answer(peer, state, message.count, now_ms)
        elif isinstance(message, Observed):
            self._on_observed(peer, state, message.ip)
        else:
            self._on_addresses(state, message.addresses, now_ms)

    def poll(self, now_ms: int) -> list[Action]:
        """Return what is to be sent now; call at least once a second."""
        actions, self._actions = self._actions, []
        for peer, state in self._peers.items():
            if self.advertised is not None and now_ms >= state.announce_ms:
                state.announce_ms = now_ms + DAY_MS // 2 + self._draw(DAY_MS)
                state.known.add(self.advertised)
                state.pending[self.advertised] = now_ms
            if state.pending and now_ms >= state.flush_ms:
                state.flush_ms = now_ms + self._draw(2 * FLUSH_MS)
                actions.append(Send(peer, Addresses(_make_seen(state.pending, now_ms))))
                state.pending = {}
        return actions

    def _answer(self, peer: Peer, state: _Peer, count: int, now_ms: int) -> None:
        """Answer an inbound peer once, with one sample a day for all, so that nobody reads the book by asking often."""
        if state.was_answered or state.contact.kind is not SlotKind.INBOUND:
            return
        state.was_answered = True
        if now_ms >= self._sample_until_ms or len(self._sample) < RELAYED_MAX:
            self._sample = self._book.sample(ADDRESSES_MAX, now_ms)
            self._sample_until_ms = now_ms + DAY_MS
        answer = tuple(seen for seen in self._sample if seen.address not in state.known)[:count]
        for seen in answer:
            state.known.add(seen.address)
        self._actions.append(Send(peer, Addresses(answer)))

    def _on_addresses(self, state: _Peer, addresses: tuple[SeenAddress, ...], now_ms: int) -> None:
        is_news = len(addresses) <= RELAYED_MAX and not state.is_asked
        state.is_asked = False
        teller = compute_prefix(state.contact.ip)
        for seen in addresses:
            if not state.bucket.try_take(ADDRESS_COST, now_ms):
                break
            state.known.add(seen.address)
            self._book.add(seen, teller, now_ms)
            if is_news and seen.age_s < FRESH_S and is_acceptable(seen.address, self._book.scope):
                self._pass_on(seen, now_ms)

    def _pass_on(self, seen: SeenAddress, now_ms: int) -> None:
        """Queue an address for two peers that a secret chooses anew every day."""
        day = (now_ms // DAY_MS).to_bytes(8, "little")
        parts = (self._book.salt, b"relay", day, seen.address.ip, seen.address.port.to_bytes(2, "little"))
        chosen = sorted(self._peers, key=lambda peer: tagged_hash("address", *parts, peer))[:RELAY_PEERS]
        for state in (self._peers[peer] for peer in chosen):
            if seen.address not in state.known and len(state.pending) < ADDRESSES_MAX:
                state.known.add(seen.address)
                state.pending[seen.address] = now_ms - seen.age_s * 1000

    def _on_observed(self, peer: Peer, state: _Peer, ip: bytes) -> None:
        """Count what peers that we chose see of us, one vote a prefix."""
        if self._is_fixed or not self.listen_port or state.contact.kind is SlotKind.INBOUND:
            return
        self._votes[peer] = ip
        is_local = self._book.scope is Scope.LOOPBACK
        voters = {(ip, peer if is_local else compute_prefix(self._peers[peer].contact.ip)): ip
                  for peer, ip in self._votes.items()}  # fmt: skip
        counts = Counter(voters.values())
        best = max(counts, key=lambda ip: (counts[ip], ip))
        address = PeerAddress(best, self.listen_port)
        if counts[best] >= CONFIRMATIONS and address != self.advertised and is_acceptable(address, self._book.scope):
            self.advertised = address
            self._book.on_own(address)
            for other in self._peers.values():
                other.announce_ms = 0


def _make_seen(pending: dict[PeerAddress, int], now_ms: int) -> tuple[SeenAddress, ...]:
    ages = ((address, max(0, now_ms - seen_ms) // 1000) for address, seen_ms in pending.items())
    return tuple(SeenAddress(address, min(age, 2**32 - 1)) for address, age in ages)
