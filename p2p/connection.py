"""One peer's side of the wire, without the wire: frames go in, events and frames come out.

Which message may come in which state stands in one table; everything else is a RemoteProtocolError, after which the
connection is closed for good. It knows nothing of what messages are for. The shape is h11's: `receive_data`,
`next_event`, `send`.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from chain.primitives import PublicKey
from p2p.errors import LocalProtocolError, RemoteProtocolError
from p2p.handshake import Role, Session, make_proof, validate_hello, verify_proof
from p2p.messages import HANDSHAKE_BYTES_MAX, Hello, Message, Proof, decode_frame, encode_frame, get_frame_kind


class State(Enum):
    """What the connection waits for."""

    EXPECT_HELLO = auto()
    EXPECT_PROOF = auto()
    OPEN = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Established:
    """The handshake is over: the peer holds `key` and, unless the port is 0, listens there."""

    key: PublicKey
    listen_port: int


Event = Established | Message

_TRANSITIONS: dict[tuple[State, type[Message]], State] = {
    (State.EXPECT_HELLO, Hello): State.EXPECT_PROOF,
    (State.EXPECT_PROOF, Proof): State.OPEN,
}
"""The handshake; in OPEN every other message keeps the state."""


class Connection:
    """The state of one connection. Call `take_outgoing` after creating it and after every `receive_data`."""

    def __init__(self, session: Session) -> None:
        """Start the handshake: an initiator has its Hello ready at once."""
        self.state = State.EXPECT_HELLO
        self.peer: Hello | None = None
        self._session = session
        self._events: deque[Event] = deque()
        self._outgoing: list[bytes] = []
        if session.role is Role.INITIATOR:
            self._outgoing.append(encode_frame(session.hello))

    def receive_data(self, data: bytes) -> None:
        """Take one whole frame; raises RemoteProtocolError and closes when no honest peer would send it here."""
        if self.state is State.CLOSED:
            raise LocalProtocolError("receive_data on a closed connection")
        try:
            self._receive(data)
        except RemoteProtocolError:
            self.state = State.CLOSED
            raise

    def next_event(self) -> Event | None:
        """Return the oldest event that was not taken yet."""
        return self._events.popleft() if self._events else None

    def take_outgoing(self) -> tuple[bytes, ...]:
        """Return the frames that the handshake wants sent, once."""
        frames, self._outgoing = tuple(self._outgoing), []
        return frames

    def send(self, message: Message) -> bytes:
        """Return the frame of `message`; raises LocalProtocolError when it may not be sent now."""
        if self.state is not State.OPEN or isinstance(message, Hello | Proof):
            raise LocalProtocolError(f"{type(message).__name__} cannot be sent in state {self.state.name}")
        return encode_frame(message)

    def close(self) -> None:
        """Take no further data."""
        self.state = State.CLOSED

    def _receive(self, data: bytes) -> None:
        record, _ = get_frame_kind(data)
        is_handshake = record in (Hello, Proof)
        is_ordinary = self.state is State.OPEN and not is_handshake
        following = self.state if is_ordinary else _TRANSITIONS.get((self.state, record))
        if following is None:
            raise RemoteProtocolError("out-of-turn", f"found {record.__name__} in state {self.state.name}")
        if is_handshake and len(data) > HANDSHAKE_BYTES_MAX:
            raise RemoteProtocolError("size", f"found {len(data)} bytes, expected at most {HANDSHAKE_BYTES_MAX}")
        message = decode_frame(data)
        if isinstance(message, Hello):
            self._on_hello(message)
        elif isinstance(message, Proof):
            self._on_proof(message)
        else:
            self._events.append(message)
        self.state = following

    def _on_hello(self, theirs: Hello) -> None:
        self.peer = theirs
        validate_hello(self._session, theirs)
        if self._session.role is Role.RESPONDER:
            self._outgoing += [encode_frame(self._session.hello), encode_frame(make_proof(self._session, theirs))]

    def _on_proof(self, proof: Proof) -> None:
        assert self.peer is not None
        verify_proof(self._session, self.peer, proof)
        if self._session.role is Role.INITIATOR:
            self._outgoing.append(encode_frame(make_proof(self._session, self.peer)))
        self._events.append(Established(self.peer.key, self.peer.listen_port))
