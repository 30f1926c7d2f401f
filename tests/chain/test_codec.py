"""One record, one encoding: whatever is not canonical is refused, typed, early and in bounded memory.

Covers commitment threats (non-canonical encodings) and bombs: `encode(decode(b)) == b` or DecodeError, for random
bytes, for mutations of valid records of every type, and for frames built to hurt a decoder.
"""

import time
import tracemalloc
from dataclasses import dataclass, replace
from typing import Annotated

import msgpack
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from chain import codec
from chain.codec import U8, U64, U256, Bytes, Many, Text, decode, encode
from chain.errors import DecodeError
from chain.primitives import PublicKey, Signature
from chain.transaction import Transaction, TransactionBody, Transfer
from tests.support.examples import count_examples
from tests.support.records import RECORDS, any_record

SIZE_BYTES_MAX = 4 * 1024 * 1024
MEMORY_BYTES_MAX = 8 * 1024 * 1024
relaxed = settings(
    max_examples=count_examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One field of each kind."""

    small: U8
    number: U64
    wide: U256
    blob: Annotated[bytes, Bytes(0, 1 << 20)]
    items: Annotated[tuple[U64, ...], Many(1 << 20)]
    name: Annotated[str, Text(16)]


SAMPLE = Sample(small=1, number=300, wide=2**255, blob=b"ab", items=(1, 2), name="né")
TRANSACTION = Transaction(
    TransactionBody(PublicKey(bytes(32)), 1, 2, Transfer(PublicKey(b"\x01" * 32), 3)), Signature(bytes(64))
)


def decode_or_none(cls: type, data: bytes) -> object | None:
    """Return the record; None when it was refused as it should be. Anything else is a failure."""
    try:
        record: object = decode(cls, data, SIZE_BYTES_MAX)
    except DecodeError:
        return None
    assert encode(record) == data
    assert type(record) is cls
    return record


@pytest.mark.parametrize("cls", RECORDS)
@given(data=st.data())
@relaxed
def test_every_record_comes_back(cls: type, data: st.DataObject) -> None:
    record: object = data.draw(any_record(cls))
    assert decode(cls, encode(record), SIZE_BYTES_MAX) == record


@pytest.mark.parametrize("cls", RECORDS)
@given(junk=st.binary(max_size=400))
@relaxed
def test_random_bytes_are_refused_or_canonical(cls: type, junk: bytes) -> None:
    decode_or_none(cls, junk)


@pytest.mark.parametrize("cls", RECORDS)
@given(data=st.data())
@relaxed
def test_mutated_bytes_are_refused_or_another_record(cls: type, data: st.DataObject) -> None:
    record: object = data.draw(any_record(cls))
    valid = encode(record)
    at = data.draw(st.integers(0, len(valid) - 1))
    length = data.draw(st.integers(0, 9))
    inserted = data.draw(st.binary(max_size=9))
    mutated = valid[:at] + inserted + valid[at + length :]
    found = decode_or_none(cls, mutated)
    assert (found == record) == (mutated == valid)


@pytest.mark.parametrize("cls", RECORDS)
@given(data=st.data())
@relaxed
def test_unpacking_at_once_equals_reading_item_by_item(cls: type, data: st.DataObject) -> None:
    """The short way is a second reader of the same bytes: it takes and refuses what the careful one does."""
    valid = encode(data.draw(any_record(cls)))
    at, length = data.draw(st.integers(0, len(valid) - 1)), data.draw(st.integers(0, 9))
    for message in (valid, valid[:at] + data.draw(st.binary(max_size=9)) + valid[at + length :]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(codec, "UNPACKED_AT_ONCE_MAX", -1)
            careful = decode_or_none(cls, message)
            patch.setattr(codec, "UNPACKED_AT_ONCE_MAX", SIZE_BYTES_MAX)
            assert decode_or_none(cls, message) == careful


@pytest.mark.parametrize("cls", RECORDS)
@given(data=st.data())
@relaxed
def test_foreign_items_are_refused(cls: type, data: st.DataObject) -> None:
    """Wherever one item is replaced by one that its field cannot hold, the record is refused."""
    tree = msgpack.unpackb(encode(data.draw(any_record(cls))), raw=False)
    foreign = [None, True, -1, 1.5, float("nan"), {}, {1: 2}, [[]], msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)]
    parent, index = tree, data.draw(st.integers(0, len(tree) - 1))
    while isinstance(parent[index], list) and parent[index] and data.draw(st.booleans()):
        parent = parent[index]
        index = data.draw(st.integers(0, len(parent) - 1))
    before = msgpack.packb(tree)
    parent[index] = data.draw(st.sampled_from(foreign))
    # A network of no widths has [[]] for its fields.
    assume(msgpack.packb(tree, datetime=True) != before)
    with pytest.raises(DecodeError):
        decode(cls, msgpack.packb(tree, use_bin_type=True), SIZE_BYTES_MAX)


WIDE = b"\xc4\x20" + (2**255).to_bytes(32, "big")
SPELLED = [b"\x01", b"\xcd\x01\x2c", WIDE, b"\xc4\x02ab", b"\x92\x01\x02", b"\xa3n\xc3\xa9"]
"""The canonical bytes of SAMPLE, field by field."""


@pytest.mark.parametrize(
    ("field", "spelling"),
    [
        (0, b"\xcc\x01"), (0, b"\xd0\x01"), (1, b"\xce\x00\x00\x01\x2c"), (1, b"\xd1\x01\x2c"),
        (2, b"\xc5\x00\x20" + WIDE[2:]), (3, b"\xc5\x00\x02ab"), (3, b"\xc6\x00\x00\x00\x02ab"),
        (4, b"\xdc\x00\x02\x01\x02"), (4, b"\x92\x01\xcc\x02"),
        (5, b"\xd9\x03n\xc3\xa9"),
    ],
)  # fmt: skip
def test_other_spellings_of_a_value_are_refused(field: int, spelling: bytes) -> None:
    spelled = b"\x96" + b"".join([*SPELLED[:field], spelling, *SPELLED[field + 1 :]])
    assert encode(SAMPLE) == b"\x96" + b"".join(SPELLED)
    assert msgpack.unpackb(spelled) == msgpack.unpackb(encode(SAMPLE)), "the same value to msgpack"
    with pytest.raises(DecodeError, match="canonical"):
        decode(Sample, spelled, SIZE_BYTES_MAX)


@pytest.mark.parametrize(
    ("field", "foreign"),
    [
        (0, b"\xcb\x7f\xf8" + bytes(6)), (0, b"\xca" + bytes(4)), (0, b"\xc3"), (3, b"\xa2ab"), (5, b"\xa2\xff\xfe"),
        (5, b"\xc4\x01n"),
    ],
)  # fmt: skip
def test_floats_truths_and_confused_strings_are_refused(field: int, foreign: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(Sample, b"\x96" + b"".join([*SPELLED[:field], foreign, *SPELLED[field + 1 :]]), SIZE_BYTES_MAX)


@pytest.mark.parametrize("tail", [b"\x00", b"\xc0", b"\xc1", b"\x90" * 1000, encode(SAMPLE)])
def test_trailing_bytes_are_refused(tail: bytes) -> None:
    with pytest.raises(DecodeError, match="canonical"):
        decode(Sample, encode(SAMPLE) + tail, SIZE_BYTES_MAX)


def test_truncations_are_refused() -> None:
    whole = encode(TRANSACTION)
    for length in range(len(whole)):
        with pytest.raises(DecodeError):
            decode(Transaction, whole[:length], SIZE_BYTES_MAX)


BOMBS = {
    "a megabyte of empty arrays": b"\x90" * (1 << 20),
    "empty arrays in a list": b"\x96\x01\x01" + WIDE + b"\xc4\x00" + b"\xdd\x00\x0f\xff\xff" + b"\x90" * (1 << 20),
    "empty arrays in a number's place": b"\x96\xdd\x00\x0f\xff\xff" + b"\x90" * (1 << 20),
    "a million levels": b"\x91" * (1 << 20),
    "levels in a number's place": b"\x96" + b"\x91" * (1 << 20),
    "2^32 items declared": b"\xdd\xff\xff\xff\xff" + bytes(100),
    "2^32 items declared inside": b"\x96\x01\x01" + WIDE + b"\xc4\x00" + b"\xdd\xff\xff\xff\xff" + bytes(100),
    "4 GiB of bytes declared": b"\x96\x01\x01" + WIDE + b"\xc6\xff\xff\xff\xff" + bytes(100),
    "4 GiB of text declared": b"\x96\xdb\xff\xff\xff\xff" + bytes(100),
    "2^32 pairs declared": b"\x96\xdf\xff\xff\xff\xff" + bytes(100),
    "4 GiB of extension declared": b"\x96\xc9\xff\xff\xff\xff\x01" + bytes(100),
    "a map of maps": b"\x81\x01" * (1 << 19),
    "the reserved byte": b"\xc1" * 1000,
    "nothing": b"",
}


@pytest.mark.parametrize("name", BOMBS)
def test_short_bombs_build_next_to_nothing(name: str) -> None:
    bomb = BOMBS[name][: codec.UNPACKED_AT_ONCE_MAX]
    tracemalloc.start()
    with pytest.raises(DecodeError):
        decode(Sample, bomb, SIZE_BYTES_MAX)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_cost_little_and_are_refused(name: str) -> None:
    """A 1 MiB bomb must not cost more than a few times its own size, nor half a second."""
    tracemalloc.start()
    started = time.thread_time()
    with pytest.raises(DecodeError):
        decode(Sample, BOMBS[name], SIZE_BYTES_MAX)
    elapsed = time.thread_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY_BYTES_MAX
    assert elapsed < 0.5


def test_size_is_checked_before_anything_is_read() -> None:
    with pytest.raises(DecodeError, match="found 1000 bytes, expected at most 999"):
        decode(Sample, b"\xc1" * 1000, 999)
    assert decode(Sample, encode(SAMPLE), len(encode(SAMPLE))) == SAMPLE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("small", 256), ("small", -1), ("small", True), ("small", None), ("number", 1 << 64), ("number", "1"),
        ("wide", 1 << 256), ("wide", -1), ("blob", bytearray(b"a")), ("blob", bytes((1 << 20) + 1)), ("blob", "a"),
        ("items", [1, 2]), ("items", (1, -1)), ("name", "x" * 17), ("name", "é" * 9), ("name", b"x"),
        ("name", "\ud800"),
    ],
)  # fmt: skip
def test_fields_out_of_range_are_not_written(field: str, value: object) -> None:
    with pytest.raises(DecodeError):
        encode(replace(SAMPLE, **{field: value}))  # type: ignore[arg-type]  # a wrong value is the point


def test_errors_name_the_field_and_both_sides() -> None:
    tree = msgpack.unpackb(encode(TRANSACTION))
    tree[0][1] = -5
    with pytest.raises(DecodeError, match=r"Transaction.body: TransactionBody.nonce: .*\[0, 2\^64\), found -5"):
        decode(Transaction, msgpack.packb(tree, use_bin_type=True), SIZE_BYTES_MAX)


@pytest.mark.parametrize("tag", [3, 255, -1, b"\x00", None, True])
def test_an_unknown_choice_is_refused(tag: object) -> None:
    tree = msgpack.unpackb(encode(TRANSACTION))
    tree[0][3][0] = tag
    with pytest.raises(DecodeError):
        decode(Transaction, msgpack.packb(tree, use_bin_type=True), SIZE_BYTES_MAX)


def test_a_record_of_another_type_is_not_written() -> None:
    with pytest.raises(DecodeError, match="expected a TransactionBody, found Transfer"):
        encode(replace(TRANSACTION, body=Transfer(PublicKey(bytes(32)), 1)))  # type: ignore[arg-type]  # the point
