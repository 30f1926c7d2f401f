"""Blobs have one encoding, the root names the content, and the split keeps records apart: broken blobs come first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import DecodeError
from ml import dataset as module
from ml.dataset import (
    BYTE_SCALE,
    CHUNK_BYTES,
    DIGITS_SCALE,
    TEXT_RECORD_BYTES,
    U8,
    Examples,
    ExamplesBlob,
    Text,
    build_dataset,
    compute_dataset_root,
    compute_root_by_part,
    count_records,
    decode_blob,
    encode_csv,
    encode_examples,
    encode_text,
    hash_chunks,
    load_digits,
)
from ml.manifest import Parser, encode_members, match_member, parse_manifest, read_builtin_manifests
from ml.prf import derive_key, draw_below

PIXELS = np.arange(12, dtype=np.uint8).reshape(4, 3)
LABELS = np.array([0, 2, 1, 2], np.uint8)
EXAMPLES = encode_examples(PIXELS, LABELS, 128, 9)


def make_text(records: int, rest: int = 0) -> bytes:
    """Return a text whose every record holds its own number, over and over."""
    body = b"".join(number.to_bytes(4, "little") * (TEXT_RECORD_BYTES // 4) for number in range(records))
    return body + (records - 1).to_bytes(4, "little") * (rest // 4)


def find_numbers(stream: U8) -> list[int]:
    return [int(number) for number in np.unique(stream.view("<u4"))]


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "found no bytes, expected kind 1"),
        (b"\x00" + EXAMPLES[1:], "found kind 0"),
        (EXAMPLES[:11], "expected a header of 12"),
        (EXAMPLES[:-1], "found 27 bytes, expected 28"),
        (EXAMPLES + b"\x00", "found 29 bytes, expected 28"),
        (EXAMPLES[:1] + bytes(4) + EXAMPLES[5:], "found 0 of width 3"),
        (EXAMPLES[:1] + b"\xff" * 8 + EXAMPLES[9:], "found 28 bytes, expected"),
        (EXAMPLES[:10] + b"\x11" + EXAMPLES[11:], "found centre 128 and shift 17"),
        (EXAMPLES[:11] + b"\x03" + EXAMPLES[12:], "found highest label 2, expected 3"),
        (EXAMPLES[:-1] + b"\x07", "found highest label 7, expected 2"),
        (b"\x02" + bytes(7), "expected a header of 9"),
        (b"\x02" + bytes(8), "text: found 0 bytes"),
        (encode_text(b"abc") + b"d", "found 13 bytes, expected 12"),
    ],
)
def test_a_blob_that_no_encoder_wrote_is_refused(blob: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode_blob(blob)
    with pytest.raises(DecodeError):
        build_dataset(blob, 0)


def test_what_has_no_blob_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DecodeError, match="found 0 bytes, expected at least 1"):
        encode_text(b"")
    with pytest.raises(DecodeError, match=r"found pixels \(4, 3\) and labels \(3,\)"):
        encode_examples(PIXELS, LABELS[:3], 128, 9)
    with pytest.raises(DecodeError, match=r"found pixels \(0, 3\)"):
        encode_examples(PIXELS[:0], LABELS[:0], 128, 9)
    monkeypatch.setattr(module, "BLOB_BYTES_MAX", 20)
    with pytest.raises(DecodeError, match="found 28 bytes, expected at most 20"):
        decode_blob(EXAMPLES)


@pytest.mark.parametrize("heldout", [-1, 4, 5, 2**32])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(heldout: int) -> None:
    for blob in (EXAMPLES, encode_text(make_text(4))):
        with pytest.raises(DecodeError, match=f"found {heldout} records to hold out, expected .* less than 4"):
            build_dataset(blob, heldout)


def test_a_text_shorter_than_a_record_is_refused() -> None:
    with pytest.raises(DecodeError, match="found 4095 bytes, expected at least 4096"):
        build_dataset(encode_text(bytes(TEXT_RECORD_BYTES - 1)), 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no line of two fields"),
        (b"7\n", "no line of two fields"),
        (b"1,2\n1,2,3\n", "line 2: found 3 fields, expected 2"),
        (b"1,2\n1,x\n", "line 2: found b'1,x', expected integers"),
        (b"1,2\n\n1,2\n", "line 2: found b''"),
        (b"1,256\n", "line 1"),
        (b"-1,2\n", "line 1"),
        (b"1.0,2\n", "line 1"),
        (b"17,2\n", "found a pixel of 17, expected at most 16"),
    ],
)
def test_a_broken_csv_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        encode_csv(data, DIGITS_SCALE)


@given(st.data())
def test_examples_come_back_from_their_blob(data: st.DataObject) -> None:
    count, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    pixels = np.frombuffer(data.draw(st.binary(min_size=count * width, max_size=count * width)), np.uint8)
    labels = np.frombuffer(data.draw(st.binary(min_size=count, max_size=count)), np.uint8)
    centre, shift = data.draw(st.integers(0, 255)), data.draw(st.integers(0, 16))
    blob = encode_examples(pixels.reshape(count, width), labels, centre, shift)
    found = decode_blob(blob)
    assert isinstance(found, ExamplesBlob)
    assert encode_examples(found.pixels, found.labels, found.centre, found.shift) == blob
    assert (found.pixels.tobytes(), found.labels.tobytes()) == (pixels.tobytes(), labels.tobytes())


@given(st.binary(min_size=1, max_size=300))
def test_a_text_comes_back_from_its_blob(text: bytes) -> None:
    found = decode_blob(encode_text(text))
    assert not isinstance(found, ExamplesBlob)
    assert found.tobytes() == text


@given(st.binary(max_size=64))
def test_no_bytes_have_two_readings(blob: bytes) -> None:
    """Whatever decodes is what the encoder would have written."""
    try:
        found = decode_blob(blob)
    except DecodeError:
        return
    if isinstance(found, ExamplesBlob):
        assert encode_examples(found.pixels, found.labels, found.centre, found.shift) == blob
    else:
        assert encode_text(found.tobytes()) == blob


@given(st.integers(1, 40), st.integers(0, TEXT_RECORD_BYTES // 4 - 1), st.data())
def test_a_text_shares_no_record_between_its_parts(records: int, rest: int, data: st.DataObject) -> None:
    heldout = data.draw(st.integers(0, records - 1))
    text = make_text(records, rest * 4)
    found = build_dataset(encode_text(text), heldout)
    assert isinstance(found, Text)
    train, held = find_numbers(found.stream), find_numbers(found.heldout)
    assert (len(train), len(held)) == (records - heldout, heldout)
    assert sorted(train + held) == list(range(records))
    assert len(found.stream) + len(found.heldout) == len(text)
    for part in (found.stream, found.heldout):
        assert (np.diff(part.view("<u4").astype(np.int64)) >= 0).all(), "out of the text's order"
        assert not part.flags.writeable
        assert not len(part) or len(part) >= TEXT_RECORD_BYTES


@given(st.integers(1, 200), st.data())
def test_examples_share_no_record_between_their_parts(count: int, data: st.DataObject) -> None:
    heldout = data.draw(st.integers(0, count - 1))
    pixels = np.arange(count, dtype=np.uint8)[:, None]
    found = build_dataset(encode_examples(pixels, pixels[:, 0], 7, 3), heldout)
    assert isinstance(found, Examples)
    assert found.labels.shape == (count - heldout, 1)
    assert found.heldout_x.shape == (heldout, 1)
    together = np.concatenate([found.labels, found.heldout_labels])
    assert sorted(together[:, 0].tolist()) == list(range(count))
    assert ((np.concatenate([found.x, found.heldout_x]) >> 3) + 7 == together).all()
    assert not any(part.flags.writeable for part in (found.x, found.labels, found.heldout_x, found.heldout_labels))


def test_the_split_is_the_permutation_of_the_root() -> None:
    """Against Fisher-Yates written out: the same blob always gives the same split."""
    blob = encode_text(make_text(50))
    order, key = list(range(50)), derive_key("split", compute_dataset_root(blob))
    for k in range(49, 0, -1):
        other = draw_below(key, k, k + 1)
        order[k], order[other] = order[other], order[k]
    first, again = build_dataset(blob, 7), build_dataset(bytes(bytearray(blob)), 7)
    assert isinstance(first, Text)
    assert isinstance(again, Text)
    assert find_numbers(first.heldout) == sorted(order[-7:])
    assert first.heldout.tobytes() == again.heldout.tobytes()
    assert first.root == again.root


def test_the_root_names_the_content_alone() -> None:
    assert build_dataset(EXAMPLES, 1).root == build_dataset(EXAMPLES, 2).root == compute_dataset_root(EXAMPLES)
    others = [EXAMPLES[:at] + bytes([EXAMPLES[at] ^ 1]) + EXAMPLES[at + 1 :] for at in range(len(EXAMPLES))]
    assert len({compute_dataset_root(blob) for blob in [EXAMPLES, *others]}) == len(EXAMPLES) + 1


def test_one_bit_anywhere_changes_the_root_of_many_chunks() -> None:
    blob = bytes(3 * CHUNK_BYTES + 5)
    places = [0, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1, len(blob) - 1]
    others = [blob[:at] + b"\x01" + blob[at + 1 :] for at in places]
    assert len({compute_dataset_root(each) for each in [blob, blob + b"\x00", blob[:-1], *others]}) == len(places) + 3


@given(st.integers(1, 5 * CHUNK_BYTES), st.data())
def test_any_chunks_and_the_hashes_of_all_others_lead_to_the_root(size: int, data: st.DataObject) -> None:
    blob = np.random.default_rng(size).bytes(size)
    hashes, root = hash_chunks(blob), compute_dataset_root(blob)
    first = data.draw(st.integers(0, len(hashes) - 1))
    end = data.draw(st.integers(first + 1, len(hashes)))
    part, others = blob[first * CHUNK_BYTES : end * CHUNK_BYTES], hashes[:first] + hashes[end:]
    assert compute_root_by_part(size, first * CHUNK_BYTES, part, b"".join(others)) == root
    place = data.draw(st.integers(0, len(part) - 1))
    changed = part[:place] + bytes([part[place] ^ 1]) + part[place + 1 :]
    assert compute_root_by_part(size, first * CHUNK_BYTES, changed, b"".join(others)) != root
    for wrong in (b"".join((*others, bytes(32))), b"".join(others)[:-1] or b"\x00"):
        with pytest.raises(DecodeError, match="hashes"):
            compute_root_by_part(size, first * CHUNK_BYTES, part, wrong)


def test_the_digits_are_what_their_manifest_says() -> None:
    digits = load_digits(360)
    (manifest,) = (each for each in read_builtin_manifests() if each.name == "digits")
    assert digits.root.hex() == manifest.root
    assert (digits.x.shape, digits.heldout_x.shape) == ((1437, 64), (360, 64))
    assert {digits.x.dtype, digits.labels.dtype} == {np.dtype(np.int32)}
    assert (int(digits.x.min()), int(digits.x.max())) == (-65536, 65536)
    assert np.bincount(digits.heldout_labels[:, 0]).min() > 20


def test_bytes_are_centred() -> None:
    found = build_dataset(encode_csv(b"0,128,255,3\n", BYTE_SCALE), 0)
    assert isinstance(found, Examples)
    assert found.x.tolist() == [[-65536, 0, 65024]]
    assert found.labels.tolist() == [[3]]
    assert count_records(encode_text(make_text(3, 400))) == 3


def make_json(**changes: str) -> bytes:
    fields = {
        "name": '"a"', "source": '"wheel"', "parser": '"text"', "licence": '"MIT"', "package": '"p"',
        "version": '"1.0"', "sha256": f'"{"0" * 64}"', "members": '["*.py"]',
    }  # fmt: skip
    parts = [f'"{name}": {value}' for name, value in {**fields, **changes}.items() if value]
    return ("{" + ", ".join(parts) + "}").encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": '"red"'}, "unknown field `colour`"),
        ({"source": '"ftp"'}, "Invalid enum value 'ftp'"),
        ({"parser": '"pickle"'}, "Invalid enum value 'pickle'"),
        ({"name": ""}, "missing required field `name`"),
        ({"name": '"../a"'}, "name: found '../a'"),
        ({"licence": '""'}, "found no licence"),
        ({"sha256": ""}, "found no sha256, expected one for the source wheel"),
        ({"sha256": f'"{"A" * 64}"'}, "expected 64 hex digits"),
        ({"root": '"12"'}, "root: found '12'"),
        ({"package": '"--index-url=http://evil"'}, "expected the name of a package"),
        ({"version": '">=1"'}, "expected one exact version"),
        ({"url": '"https://a.b/c"'}, "found url, expected none for the source wheel"),
        ({"members": ""}, "found no members"),
        ({"members": '["../../etc/passwd"]'}, "leads nowhere above"),
        ({"members": '["/etc/passwd"]'}, "leads nowhere above"),
        ({"members": '["a/../b"]'}, "leads nowhere above"),
        ({"members": r'["a\\b"]'}, "leads nowhere above"),
        ({"members": '["a/**b"]'}, "one \\*\\* as a folder"),
        ({"members": '["**/a/**/b"]'}, "one \\*\\* as a folder"),
        ({"members": '["a/[b]"]'}, "one \\*\\* as a folder"),
        ({"source_bytes": "-1"}, "found a size of -1"),
        ({"source_bytes": "1.5"}, "Expected `int`"),
        ({"source": '"url"', "url": '"file:///etc/passwd"', "package": "", "version": ""}, "https:// or http://"),
        ({"source": '"file"', "path": '"../x"', "package": "", "version": ""}, "leads nowhere above"),
    ],
)
def test_a_manifest_that_is_not_what_it_should_be_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        parse_manifest(make_json(**changes))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'"a"', b" " * (65 << 10)])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="manifest: "):
        parse_manifest(data)


def test_manifests_that_ship_are_whole() -> None:
    assert [found.name for found in read_builtin_manifests()] == ["digits", "mnist_5k", "plays", "sympy"]
    assert all(found.root and found.sha256 and found.attribution for found in read_builtin_manifests())
    assert parse_manifest(make_json()).members == ("*.py",)


@pytest.mark.parametrize(
    ("pattern", "member", "is_meant"),
    [
        ("a/*.py", "a/b.py", True),
        ("a/*.py", "a/b/c.py", False),
        ("a/*.py", "a/b.pyc", False),
        ("a/**/*.py", "a/b.py", True),
        ("a/**/*.py", "a/b/c/d.py", True),
        ("a/**/*.py", "b/a/c.py", False),
        ("**/d.py", "d.py", True),
        ("a/**/b/c", "a/c", False),
        ("a.py", "a_py", False),
        ("?.py", "a.py", True),
    ],
)
def test_patterns_mean_paths(pattern: str, member: str, is_meant: bool) -> None:
    assert match_member(pattern, member) is is_meant


def test_members_become_one_blob() -> None:
    assert encode_members(Parser.TEXT, [b"a", b"", b"b"]) == encode_text(b"a\n\nb")
    with pytest.raises(DecodeError, match="labelled_csv: found 2 members, expected 1"):
        encode_members(Parser.LABELLED_CSV, [b"1,2\n", b"1,2\n"])
