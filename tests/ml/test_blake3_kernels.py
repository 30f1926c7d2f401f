"""The compiled BLAKE3 must agree with the published implementation on every size, lane and output block."""

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.backends.cpu.blake3 import (
    KEYED,
    NODE_PADDING,
    PLAIN,
    PLAIN_KEY_U32,
    fill_streams,
    get_key_words,
    hash_chunks,
    hash_nodes,
)

KEY = bytes(range(32))


def hash_all(data: bytes, starts: list[int], size: int, key: bytes | None = KEY) -> list[bytes]:
    out_u8 = np.zeros(32 * len(starts), np.uint8)
    words, mode = (PLAIN_KEY_U32, PLAIN) if key is None else (get_key_words(key), KEYED)
    hash_chunks(words, mode, np.frombuffer(bytearray(data), np.uint8), np.array(starts, np.int64), size, out_u8)
    return [row.tobytes() for row in out_u8.reshape(-1, 32)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 33, 63, 64, 65, 76, 127, 128, 500, 960, 1023, 1024])
@pytest.mark.parametrize("keyed", [True, False])
def test_digests_equal_the_package(size: int, keyed: bool) -> None:
    rng = np.random.default_rng(size)
    data = rng.bytes(40 * 7 + size)
    starts = [7 * i for i in range(40)]
    key = KEY if keyed else None
    expected = [(blake3(data[s : s + size], key=KEY) if keyed else blake3(data[s : s + size])).digest() for s in starts]
    assert hash_all(data, starts, size, key) == expected


@given(st.binary(min_size=1, max_size=1024), st.binary(min_size=32, max_size=32), st.integers(1, 35))
@settings(max_examples=40, deadline=None)
def test_any_bytes_any_count(data: bytes, key: bytes, count: int) -> None:
    assert hash_all(data, [0] * count, len(data), key) == [blake3(data, key=key).digest()] * count


@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 5, 16, 33])
def test_streams_equal_the_package(blocks: int, count: int) -> None:
    out_u8 = np.zeros((count, 64 * blocks), np.uint8)
    fill_streams(get_key_words(KEY), ord("a"), 300, out_u8)
    for i in range(count):
        message = b"a" + (300 + i).to_bytes(4, "little")
        assert out_u8[i].tobytes() == blake3(message, key=KEY).digest(length=64 * blocks)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200, 1000])
def test_what_lies_behind_an_input_does_not_count(size: int) -> None:
    data = np.random.default_rng(size).bytes(17 * size)
    starts = [size * i for i in range(17)]
    assert hash_all(data + bytes(64), starts, size) == hash_all(data + b"\xff" * 64, starts, size)
    assert hash_all(data, starts, size) == hash_all(data + bytes(64), starts, size)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_nodes_equal_the_package(size: int, count: int) -> None:
    data = np.random.default_rng(count).bytes(32 * (count + 1) + NODE_PADDING)
    out_u8 = np.zeros(32 * count, np.uint8)
    hash_nodes(7, np.frombuffer(bytearray(data), np.uint8), np.arange(count) * 32, size, out_u8)
    for i in range(count):
        assert out_u8[32 * i : 32 * i + 32].tobytes() == blake3(b"\x07" + data[32 * i : 32 * i + size]).digest()
