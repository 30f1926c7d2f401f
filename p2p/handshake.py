"""The handshake: each end proves with Ed25519 that its key sits at its end of this very TLS session.

Initiator: Hello. Responder: Hello, Proof. Initiator: Proof. Each Proof signs the signer's role, both Hellos (so the
version, chain, keys and nonces, all of them) and the hash of the responder's certificate as that end sees it: a man in
the middle shows another certificate, a replay answers an older nonce, a downgrade changes a signed byte. Sans-IO;
randomness is handed in. Source: the channel binding of RFC 9266 and SIGMA (Krawczyk 2003).
"""

from dataclasses import dataclass
from enum import Enum

from chain.codec import encode
from chain.hashing import tagged_hash
from chain.primitives import Hash
from chain.signature import SigningKey, is_valid_point, verify_signature
from p2p.errors import HandshakeRefused
from p2p.messages import Hello, Proof

PROTOCOL_VERSION = 3
"""Raised with every kind of message that is added: to an older node it would be a broken frame."""


class Role(Enum):
    """Which end of the connection; the value is signed."""

    INITIATOR = b"initiator"
    RESPONDER = b"responder"

    @property
    def other(self) -> "Role":
        """The role of the other end."""
        return Role.RESPONDER if self is Role.INITIATOR else Role.INITIATOR


@dataclass(frozen=True, slots=True)
class Session:
    """What is fixed before the first byte: our role, key and Hello, and the certificate hash we see."""

    role: Role
    key: SigningKey
    hello: Hello
    certificate_hash: Hash


@dataclass(frozen=True, slots=True)
class NetworkId:
    """Names the network that a node belongs to."""

    chain_id: Hash
    genesis_hash: Hash


def make_session(
    role: Role, key: SigningKey, network: NetworkId, certificate_hash: Hash, nonce: bytes, listen_port: int
) -> Session:
    """Return a session; `nonce` is 32 fresh random bytes, `listen_port` 0 for a node that does not listen."""
    hello = Hello(PROTOCOL_VERSION, network.chain_id, network.genesis_hash, key.public_key, nonce, listen_port)
    return Session(role, key, hello, certificate_hash)


def validate_hello(session: Session, theirs: Hello) -> None:
    """Refuse a Hello of another network, version or of ourselves; raises HandshakeRefused."""
    ours = session.hello
    for rule, found, expected in (
        ("version", theirs.version, ours.version),
        ("wrong-chain", theirs.chain_id.hex(), ours.chain_id.hex()),
        ("wrong-genesis", theirs.genesis_hash.hex(), ours.genesis_hash.hex()),
    ):
        if found != expected:
            raise HandshakeRefused(rule, f"found {found}, expected {expected}")
    if theirs.key == ours.key:
        raise HandshakeRefused("self-connection", f"found our own key {ours.key.hex()}, expected another node's")
    if theirs.nonce == ours.nonce:
        raise HandshakeRefused("reflected-nonce", "found our own nonce, expected a fresh one")
    if not is_valid_point(theirs.key):
        raise HandshakeRefused("weak-key", f"found {theirs.key.hex()}, expected a key whose order is not small")


def make_proof(session: Session, theirs: Hello) -> Proof:
    """Return our signature over both Hellos, our role and the certificate hash."""
    return Proof(session.key.sign(_compute_transcript(session, theirs, session.role)))


def verify_proof(session: Session, theirs: Hello, proof: Proof) -> None:
    """Check the peer's signature over the same, in its role; raises HandshakeRefused."""
    message = _compute_transcript(session, theirs, session.role.other)
    if not verify_signature(theirs.key, message, proof.signature):
        raise HandshakeRefused(
            "bad-signature", f"found no signature by {theirs.key.hex()} over this session, expected one"
        )


def _compute_transcript(session: Session, theirs: Hello, signer: Role) -> Hash:
    ours = session.hello
    first, second = (ours, theirs) if session.role is Role.INITIATOR else (theirs, ours)
    return tagged_hash("p2p.handshake", signer.value, encode(first), encode(second), session.certificate_hash)
