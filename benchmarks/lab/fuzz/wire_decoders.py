"""What a stranger sends: frames of every kind, whole conversations with the connection's state machine, packed blocks.

A conversation is frames behind their lengths; whoever speaks holds a key, so signatures of the handshake are right
where nothing altered them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from random import Random

import msgpack

from benchmarks.lab.fuzz.decoder import Decoder, Unfaithful, hold_canonical
from benchmarks.lab.fuzz.drawing import Scale, draw_record
from benchmarks.lab.fuzz.record_decoders import RECORD_MUTATORS
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import Mutator
from chain.block import Block, compute_transactions_root
from chain.codec import encode
from chain.header import compute_trunk_hash
from chain.packed import PackedBlock, PackedTransaction, decode_block, decode_transaction
from chain.primitives import Hash
from chain.signature import SigningKey
from chain.transaction import Transaction
from node.database.export_folder import ExportRefused, iter_records, join_records
from p2p.connection import Connection, Established, State
from p2p.content import read_block
from p2p.errors import LocalProtocolError, RemoteProtocolError
from p2p.handshake import NetworkId, Role, Session, make_session
from p2p.messages import FRAME_BYTES_MAX, KINDS, Hello, Proof, decode_frame, encode_frame

_NETWORK = NetworkId(Hash(bytes([1]) * 32), Hash(bytes([2]) * 32))
_CERTIFICATE = Hash(bytes([3]) * 32)
_OURS, _THEIRS = SigningKey(bytes([4]) * 32), SigningKey(bytes([5]) * 32)


def make_wire_decoders() -> tuple[Decoder, ...]:
    """Return the decoders of what comes over a connection."""
    conversations = (
        Decoder(
            f"p2p.connection.{role.name.lower()}", partial(_listen, role), partial(_speak, role),
            _CONVERSATION_MUTATORS, (RemoteProtocolError, ExportRefused), FRAME_BYTES_MAX,
        )
        for role in Role
    )  # fmt: skip
    frames = Decoder(
        "p2p.messages.decode_frame", hold_canonical(decode_frame, encode_frame), _draw_frames, FRAME_MUTATORS,
        (RemoteProtocolError,), FRAME_BYTES_MAX,
    )  # fmt: skip
    blocks = (
        Decoder("chain.packed.decode_block", hold_canonical(decode_block, PackedBlock.encode), _draw_blocks,
                RECORD_MUTATORS),
        Decoder("p2p.content.read_block", _read_block, _draw_bound_blocks, RECORD_MUTATORS, (RemoteProtocolError,)),
        Decoder("chain.packed.decode_transaction", hold_canonical(decode_transaction, _get_data), _draw_transactions,
                RECORD_MUTATORS),
    )  # fmt: skip
    return (frames, *conversations, *blocks)


def _read_block(data: bytes) -> None:
    read_block(data)


def _get_data(packed: PackedTransaction) -> bytes:
    return encode(packed.transaction)


def _draw_transactions() -> tuple[bytes, ...]:
    return _draw(Transaction)


def _draw_blocks() -> tuple[bytes, ...]:
    return _draw(Block)


def _draw_bound_blocks() -> tuple[bytes, ...]:
    """Return blocks whose headers name their content."""
    bound = []
    for data in _draw(Block):
        block = decode_block(data).block
        foliage = replace(
            block.header.foliage,
            transactions_root=compute_transactions_root(block.transactions),
            trunk_hash=compute_trunk_hash(block.header.trunk),
        )
        bound.append(encode(replace(block, header=replace(block.header, foliage=foliage))))
    return tuple(bound)


def _draw(record: type) -> tuple[bytes, ...]:
    rng = Random(f"wire:{record.__name__}")
    return tuple(encode(draw_record(record, rng, scale)) for scale in (Scale(40, 2), Scale(40, 3), Scale(300, 8)))


@cache
def _draw_frames() -> tuple[bytes, ...]:
    """Return frames of every kind."""
    rng = Random("frames")
    drawn = (draw_record(record, rng, scale) for record, _ in KINDS for scale in (Scale(40, 2), Scale(300, 8)))
    return tuple(encode_frame(message) for message in drawn)  # type: ignore[arg-type]


def _alter_payload(mutate: Mutator) -> Mutator:
    """Return the mutator that alters the message of a frame and frames it again."""

    def alter(rng: Random, data: bytes, other: bytes) -> bytes:
        kind, payload = msgpack.unpackb(data)
        packed: bytes = msgpack.packb([kind, mutate(rng, payload, msgpack.unpackb(other)[1])])
        return packed

    return alter


def _change_kind(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Say that the same payload is of another kind."""
    return data[:1] + bytes([rng.choice((*range(len(KINDS) + 1), 0x7F, 0xCC))]) + data[2:]


FRAME_MUTATORS: Mapping[str, Mutator] = {
    **RECORD_MUTATORS,
    **{f"payload: {name}": _alter_payload(mutate) for name, mutate in RECORD_MUTATORS.items()},
    "other kind": _change_kind,
}


def _make_session(role: Role) -> Session:
    """Return our session in a role; theirs is in the other."""
    key, nonce = (_OURS, bytes([6]) * 32) if role is Role.RESPONDER else (_THEIRS, bytes([7]) * 32)
    return make_session(role, key, _NETWORK, _CERTIFICATE, nonce, 4610)


def _listen(role: Role, data: bytes) -> None:
    """Take a conversation in a role; raises RemoteProtocolError, and Unfaithful where an event is not its frame."""
    connection = Connection(_make_session(role))
    heard: list[bytes] = []
    given = list(iter_records(data))
    for frame in given:
        try:
            connection.receive_data(frame)
        except RemoteProtocolError:
            _validate_closed(connection, frame)
            raise
        connection.take_outgoing()
        heard += _take_events(connection)
    # Of the handshake one event comes, and of everything else the message itself.
    if heard != given[2:] or (connection.state is State.OPEN) != (len(given) >= 2):
        raise Unfaithful(f"found {len(heard)} messages in {connection.state}, expected the {len(given)} frames' own")


def _take_events(connection: Connection) -> list[bytes]:
    frames = []
    while (event := connection.next_event()) is not None:
        if not isinstance(event, Established):
            frames.append(encode_frame(event))
    return frames


def _validate_closed(connection: Connection, frame: bytes) -> None:
    try:
        connection.receive_data(frame)
    except LocalProtocolError:
        return
    raise Unfaithful("found a connection that goes on behind an error, expected it closed")


@cache
def _speak(role: Role) -> tuple[bytes, ...]:
    """Return conversations that whoever is in `role` accepts: a handshake and messages of every kind."""
    ours, theirs = Connection(_make_session(role)), Connection(_make_session(role.other))
    frames: list[bytes] = []
    waiting = [*theirs.take_outgoing()]
    while ours.state is not State.OPEN or theirs.state is not State.OPEN:
        for frame in waiting:
            ours.receive_data(frame)
        frames += waiting
        for frame in ours.take_outgoing():
            theirs.receive_data(frame)
        waiting = [*theirs.take_outgoing()]
    ordinary = [frame for frame in _draw_frames() if not isinstance(decode_frame(frame), Hello | Proof)]
    cuts = range(0, len(ordinary) + 1, len(ordinary) // 4)
    parts = [ordinary[start:stop] for start, stop in pairwise(cuts)]
    return tuple(join_records(frames + part) for part in ([], ordinary[:1], *parts))


def _alter_frames(alter: Callable[[Random, list[bytes], list[bytes]], list[bytes]]) -> Mutator:
    def mutate(rng: Random, data: bytes, other: bytes) -> bytes:
        return join_records(alter(rng, list(iter_records(data)), list(iter_records(other))))

    return mutate


def _alter_one(mutate: Mutator) -> Mutator:
    def alter(rng: Random, frames: list[bytes], others: list[bytes]) -> list[bytes]:
        place = rng.randrange(len(frames))
        frames[place] = mutate(rng, frames[place], rng.choice(others))
        return frames

    return _alter_frames(alter)


def _move_frame(rng: Random, frames: list[bytes], _others: list[bytes]) -> list[bytes]:
    """Put a frame elsewhere, so that messages come out of turn."""
    frame = frames.pop(rng.randrange(len(frames)))
    frames.insert(rng.randrange(len(frames) + 1), frame)
    return frames


def _drop_frame(rng: Random, frames: list[bytes], _others: list[bytes]) -> list[bytes]:
    del frames[rng.randrange(len(frames))]
    return frames


def _add_frame(rng: Random, frames: list[bytes], others: list[bytes]) -> list[bytes]:
    frames.insert(rng.randrange(len(frames) + 1), rng.choice((*others, *_draw_frames())))
    return frames


_CONVERSATION_MUTATORS: Mapping[str, Mutator] = {
    **BYTE_MUTATORS,
    **{f"frame: {name}": _alter_one(mutate) for name, mutate in FRAME_MUTATORS.items()},
    "frame moved": _alter_frames(_move_frame),
    "frame dropped": _alter_frames(_drop_frame),
    "frame added": _alter_frames(_add_frame),
}
