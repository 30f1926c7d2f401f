"""What is known of one connected peer, for whoever looks and for the choice of who makes room.

It reads a link and changes nothing.
"""

from dataclasses import dataclass

from chain.primitives import PublicKey
from node.doorman import make_visit
from node.link import Link, get_now_ms
from p2p.slots import Guest, SlotKind


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What is known of one connected peer; height and work are its claims, points its standing (0 is best).

    `origin` says how its address was found, `kind` what the connection is for; `latency_ms` is None until measured.
    """

    key: PublicKey
    address: str
    listen_port: int
    kind: SlotKind
    origin: str
    height: int
    total_work: int
    points: int
    received_bytes: int
    sent_bytes: int
    latency_ms: int | None
    connected_ms: int

    @property
    def is_inbound(self) -> bool:
        """Whether the peer opened the connection."""
        return self.kind is SlotKind.INBOUND


def describe_peer(key: PublicKey, link: Link, points: int) -> PeerInfo:
    """Return what a link shows of its peer."""
    return PeerInfo(
        key=key,
        address=link.wire.address,
        listen_port=link.established.listen_port if link.established else 0,
        kind=link.kind,
        origin=link.origin,
        height=link.status.height,
        total_work=link.status.total_work,
        points=points,
        received_bytes=link.received_bytes,
        sent_bytes=link.sent_bytes,
        latency_ms=link.latency_ms,
        connected_ms=get_now_ms() - link.since_ms,
    )


def make_guest(key: PublicKey, link: Link) -> Guest:
    """Return what speaks for an inbound peer."""
    prefix = make_visit(link.wire.address).prefix
    return Guest(key, prefix, link.since_ms, link.latency_ms, link.block_ms, link.transaction_ms)
