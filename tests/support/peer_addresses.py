"""Addresses of peers for tests, and the moment at which their clocks start."""

from p2p.addresses import PeerAddress, make_address

NOW_MS = 1_800_000_000_000
SALT = bytes(range(32))


def at(host: str, port: int = 4610) -> PeerAddress:
    """Return the address of a numeric host."""
    address = make_address(host, port)
    assert address is not None
    return address


def numbered(number: int) -> PeerAddress:
    """Return one of many global addresses, 256 to a /16."""
    return at(f"{20 + number // 65536}.{number // 256 % 256}.{number % 256}.9")
