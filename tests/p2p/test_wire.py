"""Frames, handshake and connection: what is refused, and that nothing else than typed errors comes out."""

import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import DecodeError
from chain.hashing import tagged_hash
from chain.primitives import Hash, PublicKey, Signature
from chain.signature import SigningKey
from p2p.connection import Connection, Established, State
from p2p.content import read_block, read_header, read_transaction
from p2p.errors import HandshakeRefused, LocalProtocolError, RemoteProtocolError
from p2p.handshake import NetworkId, Role, Session, _compute_transcript, make_proof, make_session
from p2p.messages import FRAME_BYTES_MAX, KINDS, Hello, Message, Ping, Proof, Status, decode_frame, encode_frame
from tests.support.records import any_record

NETWORK = NetworkId(tagged_hash("test.chain"), tagged_hash("test.genesis"))
ALICE, BOB, MALLORY = (SigningKey(bytes([i]) * 32) for i in (1, 2, 3))
CERTIFICATE, OTHER_CERTIFICATE = tagged_hash("test.certificate"), tagged_hash("test.other")
RECORDS = [record for record, _ in KINDS]
any_message = st.one_of([any_record(record) for record in RECORDS])


def session(role: Role, key: SigningKey, nonce: int, certificate: Hash = CERTIFICATE) -> Session:
    return make_session(role, key, NETWORK, certificate, bytes([nonce]) * 32, 0)


def run_handshake(one: Connection, other: Connection) -> None:
    for _ in range(3):
        for source, target in ((one, other), (other, one)):
            for frame in source.take_outgoing():
                target.receive_data(frame)


def open_pair() -> tuple[Connection, Connection]:
    pair = Connection(session(Role.INITIATOR, ALICE, 1)), Connection(session(Role.RESPONDER, BOB, 2))
    run_handshake(*pair)
    return pair


@given(any_message)
def test_frames_return_what_they_carry(message: Message) -> None:
    try:
        frame = encode_frame(message)
    except DecodeError:
        return
    assert decode_frame(frame) == message


@settings(max_examples=500)
@given(st.binary(max_size=200), st.integers(0, 20), st.booleans())
def test_random_bytes_give_typed_errors(data: bytes, kind: int, is_framed: bool) -> None:
    framed = b"\x92" + bytes([kind]) + b"\xc4" + bytes([len(data)]) + data if is_framed else data
    for read in (decode_frame, read_block, read_transaction, read_header):
        with suppress(RemoteProtocolError):
            read(framed if read is decode_frame else data)


@settings(max_examples=500)
@given(any_message, st.data())
def test_mutated_frames_give_typed_errors_or_another_message(message: Message, data: st.DataObject) -> None:
    try:
        frame = bytearray(encode_frame(message))
    except DecodeError:
        return
    position = data.draw(st.integers(0, len(frame) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
    if change == "flip":
        frame[position] ^= data.draw(st.integers(1, 255))
    elif change == "cut":
        del frame[position:]
    elif change == "insert":
        frame[position:position] = data.draw(st.binary(min_size=1, max_size=9))
    else:
        frame += frame[position:]
    try:
        found = decode_frame(bytes(frame))
    except RemoteProtocolError:
        return
    assert encode_frame(found) == bytes(frame), "one message has one encoding"


def measure_s(work: Callable[[bytes], object], frame: bytes) -> float:
    """Return the processor seconds of this thread that `work` takes."""
    started = time.thread_time()
    work(frame)
    return time.thread_time() - started


def refuse(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_frame(frame)


@cache
def measure_reading_s(size_bytes: int) -> float:
    """Return what looking at every fourth of so many bytes takes, as slowly as Python does."""
    return min(measure_s(read_byte_by_byte, bytes(size_bytes)) for _ in range(5))


def read_byte_by_byte(frame: bytes) -> None:
    for byte in frame[::4]:
        assert byte >= 0


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("filler", [b"\x90", b"\x91", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x81\xa1a"])
def test_bombs_are_bounded(kind: int, filler: bytes) -> None:
    payload = (filler * (1_900_000 // len(filler)))[:1_900_000]
    frame = b"\x92" + bytes([kind]) + b"\xc6" + len(payload).to_bytes(4, "big") + payload
    tracemalloc.start()
    with pytest.raises(RemoteProtocolError):
        decode_frame(frame)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 16 * 1024 * 1024
    assert min(measure_s(refuse, frame) for _ in range(2)) < 4 * measure_reading_s(len(frame))


def test_size_is_checked_by_kind_before_decoding() -> None:
    for kind, (_, size_bytes_max) in enumerate(KINDS):
        with pytest.raises(RemoteProtocolError, match="size"):
            decode_frame(b"\x92" + bytes([kind]) + bytes(size_bytes_max))
    assert max(size for _, size in KINDS) == FRAME_BYTES_MAX


def test_handshake_opens_both_ends() -> None:
    alice, bob = open_pair()
    assert (alice.next_event(), bob.next_event()) == (Established(BOB.public_key, 0), Established(ALICE.public_key, 0))
    assert alice.state is bob.state is State.OPEN
    bob.receive_data(alice.send(Ping(7)))
    assert bob.next_event() == Ping(7)
    assert bob.next_event() is None


def test_a_man_in_the_middle_shows_another_certificate() -> None:
    alice = Connection(session(Role.INITIATOR, ALICE, 1, OTHER_CERTIFICATE))
    with pytest.raises(HandshakeRefused, match="bad-signature"):
        run_handshake(alice, Connection(session(Role.RESPONDER, BOB, 2)))
    assert alice.state is State.CLOSED


def test_a_replayed_proof_is_refused() -> None:
    first = session(Role.INITIATOR, ALICE, 1)
    recorded = make_proof(first, session(Role.RESPONDER, BOB, 2).hello)
    bob = Connection(session(Role.RESPONDER, BOB, 9))
    bob.receive_data(encode_frame(first.hello))
    with pytest.raises(HandshakeRefused, match="bad-signature"):
        bob.receive_data(encode_frame(recorded))


def test_a_proof_of_the_other_role_is_refused() -> None:
    bob_session = session(Role.RESPONDER, BOB, 2)
    bob = Connection(bob_session)
    hello = session(Role.INITIATOR, ALICE, 1).hello
    bob.receive_data(encode_frame(hello))
    forged = Proof(ALICE.sign(_compute_transcript(bob_session, hello, Role.RESPONDER)))
    with pytest.raises(HandshakeRefused, match="bad-signature"):
        bob.receive_data(encode_frame(forged))


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("version", lambda hello: replace(hello, version=0)),
        ("wrong-chain", lambda hello: replace(hello, chain_id=tagged_hash("test.other"))),
        ("wrong-genesis", lambda hello: replace(hello, genesis_hash=tagged_hash("test.other"))),
        ("self-connection", lambda hello: replace(hello, key=BOB.public_key)),
        ("reflected-nonce", lambda hello: replace(hello, nonce=b"\x02" * 32)),
        ("weak-key", lambda hello: replace(hello, key=PublicKey(b"\x01" + bytes(31)))),
        ("weak-key", lambda hello: replace(hello, key=PublicKey(bytes(32)))),
        ("bad-signature", lambda hello: replace(hello, listen_port=4)),
        ("bad-signature", lambda hello: replace(hello, key=MALLORY.public_key)),
        ("bad-signature", lambda hello: replace(hello, nonce=b"\x07" * 32)),
    ],
)
def test_an_altered_hello_is_refused(rule: str, change: Callable[[Hello], Hello]) -> None:
    hello = session(Role.INITIATOR, ALICE, 1).hello
    altered = change(hello)
    alice = session(Role.INITIATOR, ALICE, 1)
    bob_session = session(Role.RESPONDER, BOB, 2)
    bob = Connection(bob_session)
    with pytest.raises(HandshakeRefused) as refusal:
        bob.receive_data(encode_frame(altered))
        bob.receive_data(encode_frame(make_proof(alice, bob_session.hello)))
    assert refusal.value.rule == rule
    assert bob.next_event() is None


def test_messages_out_of_turn_close_the_connection() -> None:
    hello = session(Role.INITIATOR, ALICE, 1).hello
    proof = Proof(Signature(bytes(64)))
    openings: list[list[Message]] = [[Ping(1)], [proof], [hello, hello], [hello, Status(1, 1)]]
    for opening in openings:
        bob = Connection(session(Role.RESPONDER, BOB, 2))
        with pytest.raises(RemoteProtocolError, match="out-of-turn"):
            for message in opening:
                bob.receive_data(encode_frame(message))
        with pytest.raises(LocalProtocolError):
            bob.receive_data(encode_frame(hello))
    _, bob = open_pair()
    for again in (hello, proof):
        with pytest.raises(RemoteProtocolError, match="out-of-turn"):
            open_pair()[0].receive_data(encode_frame(again))


def test_sending_before_the_handshake_is_our_own_fault() -> None:
    alice = Connection(session(Role.INITIATOR, ALICE, 1))
    for message in (Ping(1), session(Role.INITIATOR, ALICE, 1).hello):
        with pytest.raises(LocalProtocolError):
            alice.send(message)
    assert len(alice.take_outgoing()) == 1
    assert alice.take_outgoing() == ()
    assert len(encode_frame(Hello(1, NETWORK.chain_id, NETWORK.genesis_hash, ALICE.public_key, bytes(32), 1))) < 256
