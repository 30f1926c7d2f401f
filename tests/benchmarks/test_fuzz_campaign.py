"""A share of the campaign finds nothing, a seed decides it, and decoders that are broken on purpose are caught."""

import ast
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import thread_time_ns

import msgpack
import pytest

from benchmarks.lab.fuzz.campaign import Plan, run_campaign
from benchmarks.lab.fuzz.corpus import read_corpus, write_corpus
from benchmarks.lab.fuzz.coverage import Tracer
from benchmarks.lab.fuzz.decoder import Decoder, hold_canonical
from benchmarks.lab.fuzz.decoders import get_decoder, get_decoders
from benchmarks.lab.fuzz.fuzzer import Fuzzer
from benchmarks.lab.fuzz.judging import SLOW_NS, Ending, judge_input
from benchmarks.lab.fuzz.record_decoders import find_records, make_record_decoder
from benchmarks.lab.fuzz.report import add_rows, append_row, make_row, read_rows, render_page
from benchmarks.lab.fuzz.shrinking import shrink
from benchmarks.lab.fuzz.text_mutators import TEXT_MUTATORS
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.records import LabError
from chain import codec
from chain.errors import DecodeError
from ml import deltas
from ml.arithmetic import I8
from node.cli import main
from node.exit_codes import ExitCode
from p2p.messages import KINDS, Ping

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fuzz"
INPUTS = 40
"""A decoder, beside samples and corpus."""


@pytest.mark.parametrize("name", get_decoders())
def test_a_decoder_holds(name: str) -> None:
    tally = Fuzzer(get_decoder(name), 1, read_corpus(CORPUS, name)).run(INPUTS)
    # How long an input takes is for a campaign to say.
    assert [each for each in tally.findings if each.verdict.ending is not Ending.SLOW] == []
    assert tally.endings[Ending.ACCEPTED] > 0
    assert tally.inputs >= INPUTS


def test_every_record_that_is_decoded_is_fuzzed() -> None:
    """Whatever a module hands to `decode` by its name is among the records that were found."""
    found = {record.__name__ for record in find_records()}
    named: set[str] = set()
    for path in (path for room in ("chain", "consensus", "ml", "p2p", "node") for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "decode":
                named |= {arg.id for arg in node.args[:1] if isinstance(arg, ast.Name) and arg.id[0].isupper()}
    assert len(named) > 12
    assert named <= found
    assert {record.__name__ for record, _ in KINDS} <= found


def test_a_corpus_belongs_to_a_decoder() -> None:
    assert {path.stem for path in CORPUS.glob("*.hex")} <= set(get_decoders())
    with pytest.raises(LabError, match="expected one of"):
        get_decoder("nobody")


def test_a_seed_decides_every_input() -> None:
    first, again, other = (Fuzzer(get_decoder("p2p.messages.Hello"), seed).run(400) for seed in (1, 1, 2))
    assert first.corpus == again.corpus
    assert first.endings == again.endings
    assert first.corpus != other.corpus


def run(decoder: Decoder, count: int = 1_500) -> list[tuple[Ending, str, bytes]]:
    tally = Fuzzer(decoder, 1).run(count)
    return [(each.verdict.ending, each.verdict.detail, each.data) for each in tally.findings]


def decode_leniently(cls: type, data: bytes, _size_bytes_max: int) -> object:
    """Decode as `chain.codec` does without comparing what it would write."""
    try:
        return codec._record_codec(cls).from_wire(msgpack.unpackb(data))
    except (ValueError, msgpack.UnpackException) as error:
        raise DecodeError(str(error)) from None


def decode_the_front(cls: type, data: bytes, size_bytes_max: int) -> object:
    """Take one object and leave what follows it."""
    reader = msgpack.Unpacker()
    reader.feed(data[:size_bytes_max])
    try:
        return codec._record_codec(cls).from_wire(reader.unpack())
    except (ValueError, msgpack.UnpackException) as error:
        raise DecodeError(str(error)) from None


def decode_by_table(cls: type, data: bytes, size_bytes_max: int) -> object:
    """Look a nonce up where only some are known."""
    found: object = decode_soundly(cls, data, size_bytes_max)
    assert isinstance(found, Ping)
    return {True: found}[found.nonce != 2**32]


decode_soundly = codec.decode


@pytest.mark.parametrize(
    ("broken", "ending", "size_bytes_max"),
    [
        (decode_leniently, Ending.UNFAITHFUL, 12),
        (decode_the_front, Ending.UNFAITHFUL, 12),
        (decode_by_table, Ending.CRASHED, 10),
    ],
)
def test_a_broken_decoder_is_caught(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[..., object], ending: Ending, size_bytes_max: int
) -> None:
    """Integers of more bytes than they need, bytes behind the end, a bare KeyError: each from few bytes."""
    monkeypatch.setattr(codec, "decode", broken)
    found = [each for each in run(make_record_decoder(Ping)) if each[0] is ending]
    assert found
    assert all(len(data) <= size_bytes_max for *_, data in found)
    assert ending is Ending.UNFAITHFUL or found[0][1].startswith("KeyError")


def unpack_leniently(data: bytes, count: int, bits: int) -> I8:
    """Drop the spare half byte without a look."""
    return unpack_soundly(bytes([*data[:-1], data[-1] & 15]) if bits == 4 and count % 2 else data, count, bits)


unpack_soundly = deltas.unpack_mantissas


@pytest.mark.parametrize(
    ("place", "broken", "told"),
    [
        ("unpack_mantissas", unpack_leniently, "not written so"),
        ("_validate_ranges", lambda *_args: None, "more than 7 x 2^29"),
        ("_validate_roots", lambda *_args: None, "roots of other bytes"),
    ],
)
def test_a_broken_decoder_of_deltas_is_caught(
    monkeypatch: pytest.MonkeyPatch, place: str, broken: Callable[..., object], told: str
) -> None:
    decoder = get_decoder("ml.deltas.decode_delta.4")
    monkeypatch.setattr(deltas, place, broken)
    details = [detail for ending, detail, _ in run(decoder, 300) if ending is Ending.UNFAITHFUL]
    assert any(told in detail for detail in details)


def test_a_slow_and_a_hoarding_decoder_are_caught() -> None:
    def hoard(data: bytes) -> bytes:
        return bytes(8 << 20)[:0] + data

    def dawdle(data: bytes) -> bytes:
        end_ns = thread_time_ns() + SLOW_NS + 5_000_000
        while thread_time_ns() < end_ns:
            pass
        return data

    for decode, ending in ((hoard, Ending.HOARDED), (dawdle, Ending.SLOW)):
        decoder = Decoder("broken", hold_canonical(decode, bytes), lambda: (b"x",), BYTE_MUTATORS)
        assert ending in {each for each, *_ in run(decoder, 0)}


def test_inputs_that_reach_further_are_kept() -> None:
    decoder = get_decoder("p2p.addresses.PeerAddress")
    start, later = Fuzzer(decoder, 1).run(0), Fuzzer(decoder, 1).run(1_000)
    assert start.edges < later.edges
    assert {*later.corpus} > {*start.corpus}


def test_the_tracer_sees_steps_of_the_rooms_alone() -> None:
    tracer = Tracer()
    assert not tracer.trace(lambda: json.loads("[1]"))
    taken = tracer.trace(lambda: codec.encode(Ping(1)))
    assert taken
    assert taken == tracer.trace(lambda: codec.encode(Ping(2)))
    assert not taken >= tracer.trace(lambda: judge_input(get_decoder("p2p.messages.Ping"), b""))


def test_shrinking_keeps_what_shows_the_fault() -> None:
    data = Random(1).randbytes(500) + b"AB" + Random(2).randbytes(300)
    assert shrink(data, lambda shorter: b"A" in shorter and b"B" in shorter) in (b"AB", b"BA")


@pytest.mark.parametrize("kind", TEXT_MUTATORS)
def test_every_mutator_of_text_alters(kind: str) -> None:
    data, other = b'{"key":[1,"two"],"other":{"deep":null}}', b'["three",4]'
    altered = [TEXT_MUTATORS[kind](Random(seed), data, other) for seed in range(40)]
    assert len({*altered} - {data}) >= 10
    assert altered == [TEXT_MUTATORS[kind](Random(seed), data, other) for seed in range(40)]


def test_a_damaged_corpus_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path, "some", [b"ab", b"a", b"ab"])
    assert read_corpus(tmp_path, "some") == (b"a", b"ab")
    assert read_corpus(tmp_path, "other") == ()
    (tmp_path / "some.hex").write_text("6g\n")
    with pytest.raises(LabError, match="expected an input in hex"):
        read_corpus(tmp_path, "some")


def test_results_add_up_on_the_page(tmp_path: Path) -> None:
    plan = Plan(("p2p.messages.Ping", "p2p.messages.Pong"), 200, 3, tmp_path, tmp_path / "findings", is_kept=True)
    kept = tmp_path / "fuzz.jsonl"
    for _ in range(2):
        for result in run_campaign(plan, lambda _line: None):
            append_row(kept, make_row(result))
    rows, total = read_rows(kept), add_rows(read_rows(kept))
    assert [row.decoder for row in rows] == [*plan.names, *plan.names]
    assert [row.decoder for row in total] == list(plan.names)
    assert total[0].inputs == rows[0].inputs + rows[2].inputs
    assert total[0].edges == max(rows[0].edges, rows[2].edges)
    page = render_page(total)
    assert f"**{sum(row.inputs for row in rows):,} inputs to 2 decoders: 0 findings.**" in page
    assert all(f"| `{name}` |" in page for name in plan.names)
    kept.write_text("{\n")
    with pytest.raises(LabError, match="expected a result on each line"):
        read_rows(kept)
    assert read_corpus(tmp_path, "p2p.messages.Ping")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz = ["lab", "fuzz", "--count", "300", "--out", str(tmp_path), "--corpus", str(tmp_path)]
    assert main([*fuzz, "--decoder", "p2p.messages.Ping", "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["decoder"] == "p2p.messages.Ping"
    monkeypatch.setattr(codec, "decode", decode_leniently)
    assert main([*fuzz, "--decoder", "p2p.messages.Ping"]) == ExitCode.FAILURE
    assert "ended as none may" in capsys.readouterr().err
    (finding,) = (tmp_path / "findings").iterdir()
    assert main(["lab", "fuzz", "--replay", str(finding), "--json"]) == ExitCode.FAILURE
    assert json.loads(capsys.readouterr().out)["ending"] == "unfaithful"
    monkeypatch.setattr(codec, "decode", decode_soundly)
    assert main(["lab", "fuzz", "--replay", str(finding)]) == ExitCode.OK
    assert main([*fuzz, "--decoder", "nobody"]) == ExitCode.USAGE
