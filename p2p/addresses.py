"""Where a node may be reached: an IP address and a port, the prefix it belongs to, and who can reach it there.

An IPv4 address travels as the IPv6 address that maps it (`::ffff:a.b.c.d`), so that one address has one encoding. A
prefix is what one operator gets cheaply: an IPv4 /16 or an IPv6 /32. Names are never resolved here. Source: RFC 4291;
Heilman et al., "Eclipse attacks on Bitcoin's peer-to-peer network" (2015) for prefixes.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated, NewType

from chain.codec import U16, U32, Bytes

Prefix = NewType("Prefix", bytes)
"""A family byte and the leading bytes of an address: addresses of one prefix count as one operator's."""

Draw = Callable[[int], int]
"""Returns a uniform integer below its argument: the only source of chance here."""

IpField = Annotated[bytes, Bytes(16, 16)]

_MAPPED = bytes(10) + b"\xff\xff"


class Scope(Enum):
    """Whose addresses a node takes: those of the internet, or those of its own machine."""

    GLOBAL = auto()
    LOOPBACK = auto()


@dataclass(frozen=True, slots=True, order=True)
class PeerAddress:
    """An IP address, IPv4 as ::ffff:a.b.c.d, and a TCP port."""

    ip: IpField
    port: U16

    @property
    def host(self) -> str:
        """The IP address as people write it."""
        return str(_parse(self.ip))

    @property
    def text(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        host = self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SeenAddress:
    """An address, and how long ago the sender last knew a node there."""

    address: PeerAddress
    age_s: U32


def make_address(host: str, port: int) -> PeerAddress | None:
    """Return the address of a numeric host, None for a name."""
    ip = pack_ip(host)
    return PeerAddress(ip, port) if ip is not None else None


def pack_ip(host: str) -> bytes | None:
    """Return the 16 bytes of a numeric host, None for a name."""
    try:
        packed = ipaddress.ip_address(host).packed
    except ValueError:
        return None
    return packed if len(packed) == 16 else _MAPPED + packed


def compute_prefix(ip: bytes) -> Prefix:
    """Return the prefix of 16 bytes of IP address."""
    return Prefix(b"\x04" + ip[12:14]) if ip[:12] == _MAPPED else Prefix(b"\x06" + ip[:4])


def is_loopback(ip: bytes) -> bool:
    """Say whether 16 bytes of IP address name the machine itself."""
    return _parse(ip).is_loopback


def is_acceptable(address: PeerAddress, scope: Scope) -> bool:
    """Say whether a node of `scope` may be told of `address` and may dial it."""
    ip = _parse(address.ip)
    is_in_scope = ip.is_loopback if scope is Scope.LOOPBACK else ip.is_global and not ip.is_multicast
    return is_in_scope and address.port != 0


def get_scope(host: str) -> Scope:
    """Return the scope of a node that listens on `host`."""
    ip = pack_ip(host)
    return Scope.LOOPBACK if host == "localhost" or (ip is not None and is_loopback(ip)) else Scope.GLOBAL


def _parse(ip: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.IPv4Address(ip[12:]) if ip[:12] == _MAPPED else ipaddress.IPv6Address(ip)
