"""Receipts of answers: files that lie first, then what the commands write, open and verify."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chain.errors import InvalidProof
from node.cli import main
from node.exit_codes import ExitCode
from node.inference.receipt import (
    NO_BEACON,
    OPENINGS_MAX,
    Receipt,
    add_openings,
    encode_receipt,
    parse_receipt,
    verify_receipt,
)
from node.models import ModelError, write_state
from tests.node.test_models import Form, make_state
from tests.support.answers import get_checkpoint_roots, make_answer, make_server
from tests.support.models import TINY_SPECS

NAMES = ("mlp", "decoder", "decoder-rotary-tied")
BEACON = bytes(range(32))


def make_receipt(name: str = "decoder", places: int = 6) -> Receipt:
    bare = Receipt(TINY_SPECS[name], make_answer(name).answer, get_checkpoint_roots(name))
    return add_openings(make_server(name), bare, BEACON, places)


def set_field(form: Form, name: str, fields: Form) -> Form:
    inner = form[name]
    assert isinstance(inner, dict)
    return form | {name: inner | fields}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda form: form | {"extra": 1}, "unknown field `extra`"),
        (lambda form: form | {"version": 2}, "mathesis-receipt' 2"),
        (lambda form: form | {"format": "other"}, "'other' 1"),
        (lambda form: form | {"trace_root": "0x12"}, "64 hex digits"),
        (lambda form: form | {"trace_root": "A" * 64}, "64 hex digits"),
        (lambda form: form | {"output": ""}, "no receipt"),
        (lambda form: form | {"output": "not base64!"}, "base64"),
        (lambda form: form | {"output": "AAAA"}, "answer hash"),
        (lambda form: set_field(form, "request", {"count": -1}), "no receipt"),
        (lambda form: set_field(form, "request", {"seed": 1 << 64}), "no receipt"),
        (lambda form: set_field(form, "request", {"stops": ["YQ=="] * 5}), "at most 4"),
        (lambda form: form | {"openings": ["AAAA"]}, "AnswerOpening"),
        (lambda form: form | {"openings": ["AAAA"] * (OPENINGS_MAX + 1)}, "at most 64"),
        (lambda form: set_field(form, "spec", {"batch": 0}), "a batch of 1"),
    ],
)
def test_a_file_that_is_no_receipt_is_refused(change: Callable[[Form], Form], expected: str) -> None:
    form = json.loads(encode_receipt(make_receipt()))
    with pytest.raises(ModelError, match=expected):
        parse_receipt(json.dumps(change(form)).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * ((16 << 20) + 1)])
def test_bytes_that_are_no_receipt_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        parse_receipt(data)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda r: replace(r, checkpoint_roots=r.checkpoint_roots[1:]), "checkpoint-roots"),
        (lambda r: replace(r, checkpoint_roots=r.checkpoint_roots[::-1]), "checkpoint-root"),
        (lambda r: replace(r, spec=TINY_SPECS["decoder-rotary"]), "spec-hash"),
        (lambda r: replace(r, openings=r.openings[1:] + r.openings[:1]), ""),
        (lambda r: replace(r, beacon=bytes(32)), ""),
        (lambda r: replace(r, answer=replace(r.answer, output=r.answer.output + b"a")), "answer-length"),
    ],
)
def test_a_receipt_that_shows_something_else_is_refused(change: Callable[[Receipt], Receipt], rule: str) -> None:
    with pytest.raises(InvalidProof) as error:
        verify_receipt(change(make_receipt()))
    assert not rule or error.value.rule == rule


@pytest.mark.parametrize("name", NAMES)
def test_a_receipt_comes_back_from_json_and_holds(name: str) -> None:
    receipt = make_receipt(name)
    again = parse_receipt(encode_receipt(receipt))
    assert again == receipt
    assert again.beacon == BEACON
    verify_receipt(again)


@pytest.fixture(name="checkpoint")
def write_checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    write_state(path, make_state("decoder"))
    return path


def sample(checkpoint: Path, *options: str) -> int:
    receipt = str(checkpoint.with_name("receipt.json"))
    arguments = ["model", "sample", str(checkpoint), "--prompt", "to be or", "--bytes", "5", "--seed", "7", "--verify"]
    return main([*arguments, "--receipt", receipt, *options])


def test_commands_make_open_and_verify_a_receipt(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = checkpoint.with_name("receipt.json")
    assert sample(checkpoint, "--json") == ExitCode.OK
    made = json.loads(capsys.readouterr().out)
    assert made["openings"] == 8
    assert made["checkpoint_root"] == make_answer("decoder").answer.checkpoint_root.hex()
    assert made["trace_root"] == make_answer("decoder").answer.trace_root.hex()
    assert parse_receipt(receipt.read_bytes()).beacon == NO_BEACON
    assert main(["model", "verify", str(receipt)]) == ExitCode.OK
    root = ["--root", made["checkpoint_root"]]
    assert main(["model", "verify", str(receipt), "--checkpoint", str(checkpoint), *root]) == ExitCode.OK
    beacon = ["--beacon", "12" * 32]
    assert main(["model", "verify", str(receipt), *beacon]) == ExitCode.VERIFICATION_REFUSED
    assert main(["model", "open", str(receipt), str(checkpoint), "--openings", "3", *beacon]) == ExitCode.OK
    assert len(parse_receipt(receipt.read_bytes()).openings) == 3
    assert main(["model", "verify", str(receipt), *beacon]) == ExitCode.OK
    assert main(["model", "verify", str(receipt), "--root", "12" * 32]) == ExitCode.VERIFICATION_REFUSED


def test_commands_refuse_what_shows_nothing(checkpoint: Path, tmp_path: Path) -> None:
    receipt = checkpoint.with_name("receipt.json")
    assert sample(checkpoint, "--openings", "0") == ExitCode.OK
    assert main(["model", "verify", str(receipt)]) == ExitCode.USAGE
    assert main(["model", "verify", str(receipt), "--root", "12"]) == ExitCode.USAGE
    assert main(["model", "verify", str(receipt), "--checkpoint", str(checkpoint)]) == ExitCode.OK
    other = tmp_path / "other.safetensors"
    write_state(other, make_state("decoder", 1))
    assert main(["model", "verify", str(receipt), "--checkpoint", str(other)]) == ExitCode.VERIFICATION_REFUSED
    assert main(["model", "open", str(receipt), str(other), "--beacon", "12" * 32]) == ExitCode.VERIFICATION_REFUSED
    receipt.write_bytes(receipt.read_bytes()[:-1])
    assert main(["model", "verify", str(receipt)]) == ExitCode.VERIFICATION_REFUSED
    assert sample(checkpoint, "--bytes", "4097") == ExitCode.USAGE
