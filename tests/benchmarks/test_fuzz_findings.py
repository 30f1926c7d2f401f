"""What fuzzing has found, each as the least input that showed it: by now a typed error, or accepted and faithful.

With the fix that an input is named for taken back, the input ends as none may.
"""

import pytest

from benchmarks.lab.fuzz.decoders import get_decoder
from benchmarks.lab.fuzz.judging import Ending, judge_input, judge_memory
from chain.codec import decode
from chain.errors import DecodeError
from node.rpc import methods
from p2p.errors import RemoteProtocolError
from p2p.messages import Pong, decode_frame

CALL = b'{"jsonrpc":"2.0","method":"model_getCheckpoint","params":{"round":7,"content":"\\ud800"},"id":6}'
ARCHIVE = "node.datasets.archive.read_members"


def patch_directory(offset: int, value: bytes) -> bytes:
    """Overwrite bytes of the first entry of an archive's directory, counted from the entry's start."""
    data = bytearray(get_decoder(ARCHIVE).make_samples()[0])
    place = data.index(b"PK\x01\x02") + offset
    data[place : place + len(value)] = value
    return bytes(data)


def make_answer(result: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"result":' + result + b"}"


def nest(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


REFUSED = {
    "a list in an integer's place, too deep to be printed": ("p2p.messages.Pong", b"\x91" * 1000 + b"\x90"),
    "a base height without bytes": ("chain.storage.row.base", b""),
    "a base height of nine bytes": ("chain.storage.row.base", b"<" + bytes(8)),
    "an indexed transaction without a block": ("chain.storage.row.transaction", b""),
    "a height without a block": ("chain.storage.row.height", b""),
    "a height without a transition": ("chain.storage.row.height", bytes(32)),
    "half a name of a stale node": ("chain.storage.row.stale", bytes(33)),
    "the name of an import without bytes": ("chain.storage.row.import", b""),
    "a leaf whose key ends before its length says": ("chain.storage.row.node", b"\x00\x05\x00ab"),
    "a leaf without a length": ("chain.storage.row.node", b"\x00"),
    "a result that is no UTF-8": ("node.rpc.client.answer", make_answer(b'["\xe5"]')),
    "a result with an integer of thousands of digits": ("node.rpc.client.answer", make_answer(b"1" * 5000)),
    "half of a surrogate pair": ("node.rpc.jsontext.parse_json", b'["\\ud800"]'),
    "half of a surrogate pair in a call": ("node.rpc.dispatch.respond", CALL),
    "an address with a control character": ("node.rpc.client.url", b"http://\x02"),
    "an address with an empty label": ("node.rpc.client.url", b"http://a..b"),
    "a number beyond a double": ("node.rpc.jsontext.parse_json", b"[1e999]"),
    "coins of thousands of digits": ("node.cli.output.parse_coins", b"0" * 5000 + b"1"),
    "a port of thousands of digits": ("node.cli.output.endpoint", b"1" * 5000),
    "an archive of a version to come": (ARCHIVE, patch_directory(6, b"\xb6")),
    "a member without a name": (ARCHIVE, patch_directory(46, b"\0")),
    "an archive that lacks its start": (ARCHIVE, get_decoder(ARCHIVE).make_samples()[0][30:]),
}


@pytest.mark.parametrize(("name", "data"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused(name: str, data: bytes) -> None:
    verdict = judge_input(get_decoder(name), data)
    assert verdict.ending is Ending.REFUSED, verdict


def test_a_list_that_nests_deep_is_a_peers_fault() -> None:
    """A kilobyte, and it was an error that ends no connection in order."""
    data = b"\x91" * 1000 + b"\x90"
    with pytest.raises(DecodeError, match="expected an integer"):
        decode(Pong, data, 4096)
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode_frame(b"\x92\x0c\xc5" + len(data).to_bytes(2, "big") + data)


def test_a_line_that_nests_deep_counts_as_torn() -> None:
    verdict = judge_input(get_decoder("node.training.metrics.read"), b'{"a":' + nest(8192) + b"}\n")
    assert verdict.ending is Ending.ACCEPTED, verdict


def test_a_field_that_nests_deep_is_text() -> None:
    verdict = judge_input(get_decoder("node.cli.rpc.field"), b"heights=" + b"[" * 5000)
    assert verdict.ending is Ending.ACCEPTED, verdict


def test_a_batch_makes_the_document_of_the_interface_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred of them took 420 ms of a node's event loop, for seven kilobytes."""
    made: list[str] = []

    def make(_registry: object, version: str) -> dict[str, object]:
        made.append(version)
        return {}

    monkeypatch.setattr(methods, "make_openrpc", make)
    methods._make_document.cache_clear()
    call = b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}'
    verdict = judge_input(get_decoder("node.rpc.dispatch.respond"), b"[" + b",".join([call] * 100) + b"]")
    methods._make_document.cache_clear()
    assert verdict.ending is Ending.ACCEPTED, verdict
    assert len(made) == 1


def test_a_small_file_costs_no_room_for_the_largest() -> None:
    """The limit on a manifest is 16 MiB, which was allocated for every one."""
    decoder = get_decoder("node.database.export_folder.reader")
    for data in decoder.make_samples():
        verdict = judge_memory(decoder, data)
        assert verdict.ending is Ending.ACCEPTED, verdict
        assert verdict.peak_bytes < 1024 * 1024


def test_a_name_with_a_zero_byte_is_refused() -> None:
    """Such a name is none that a system knows, and was a ValueError."""
    decoder = get_decoder("node.database.export_folder.reader")
    sample = decoder.make_samples()[1]
    assert sample.count(b"file") == 1
    assert judge_input(decoder, sample.replace(b"file", b"fi\0e")).ending is Ending.REFUSED
