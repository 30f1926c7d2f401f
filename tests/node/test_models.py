"""Specs, checkpoint files, exports and text, each from its unhappy side first; all real files, on the reference.

What a float model may differ in is measured against the exported PyTorch module, in a process that sees no project.
"""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.models import build_program
from ml.segment import compute_initial_state
from ml.spec import DIGITS, Spec
from ml.training import run_training_step
from node.cli import main
from node.models import ModelError, ModelState, find_spec, list_specs, read_state, write_state
from node.models.describe import compute_totals, list_ops
from node.models.export import strip_moments
from node.models.rates import format_rate, format_ratio, parse_rate
from node.models.specs import format_spec, parse_spec
from node.models.state_file import decode_state, encode_state
from tests.support.models import TINY_SPECS, make_case

Form = dict[str, object]


def make_state(name: str, step: int = 0) -> ModelState:
    """Return the state of a tiny model after `step` steps."""
    case = make_case(name)
    tensors = compute_initial_state(case.program, case.runner.checkpoint)
    for done in range(step):
        tensors = run_training_step(case.runner, done, tensors).state
    count = len(case.program.parameters)
    return ModelState(case.spec, case.dataset.root, bytes(range(32)), step, tensors[:count], tensors[count:])


def make_form(name: str = "plays-tiny") -> Form:
    form: Form = json.loads(format_spec(find_spec(name).spec))
    return form


def set_model(form: Form, **fields: object) -> Form:
    model = form["model"]
    assert isinstance(model, dict)
    return form | {"model": model | fields}


# Specs


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda form: form | {"extra": 1}, "unknown field `extra`"),
        (lambda form: set_model(form, dropout=0), "unknown field `dropout`"),
        (lambda form: {name: form[name] for name in form if name != "batch"}, "missing required field `batch`"),
        (lambda form: form | {"batch": "8"}, "Expected `int`, got `str` - at `$.batch`"),
        (lambda form: form | {"batch": True}, "Expected `int`, got `bool` - at `$.batch`"),
        (lambda form: form | {"learning_rate": 0.004}, 'write a decimal as text: "0.004"'),
        (lambda form: form | {"learning_rate": "fast"}, "found the rate 'fast'"),
        (lambda form: form | {"learning_rate": "-0.1"}, "found the rate '-0.1'"),
        (lambda form: form | {"learning_rate": "0.125"}, "a learning rate below 1/8"),
        (lambda form: form | {"version": 1}, "expected version 4"),
        (lambda form: form | {"batch": 0}, "a batch of 1 or more"),
        (lambda form: form | {"batch": 257}, "at most 16384 tokens"),
        (lambda form: form | {"heldout": -1}, "expected an integer in [0, 2^32)"),
        (lambda form: form | {"segment_steps": 1 << 16}, "expected an integer in [0, 2^16)"),
        (lambda form: set_model(form, kind="cnn"), "Invalid value 'cnn'"),
        (lambda form: set_model(form, positions="sinus"), "Invalid enum value 'sinus'"),
        (lambda form: set_model(form, tied=1), "Expected `bool`, got `int`"),
        (lambda form: set_model(form, heads=5), "a width that 5 heads divide"),
        (lambda form: set_model(form, heads=0), "a head or more"),
        (lambda form: set_model(form, hidden=131_072), "a hidden width in [1, 131072)"),
        (lambda form: set_model(form, width=12, heads=4, positions="rotary"), "an even head width"),
        (lambda form: form | {"model": {"kind": "mlp", "widths": [64, 131_072, 10]}}, "widths in [1, 131072)"),
        (lambda form: form | {"model": {"kind": "mlp", "widths": [64]}}, "two widths or more"),
        (lambda form: form | {"model": {"kind": "mlp", "widths": [64, -1]}}, "widths in [1, 131072)"),
    ],
)
def test_a_spec_that_breaks_a_rule_is_refused(change: Callable[[Form], Form], expected: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_spec(json.dumps(change(make_form())).encode())
    assert caught.value.rule == "bad-spec"
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "Expecting value"),
        (b"\xff{}", "decode"),
        (b"[]", "Expected `object`"),
        (b"[" * 50_000, "recursion"),
        (b" " * 70_000, "more than 65536 bytes"),
        (format_spec(DIGITS).encode().replace(b'"batch"', b'"batch": 1, "batch"'), "found the key 'batch' twice"),
    ],
)
def test_a_file_that_is_no_spec_is_refused(data: bytes, expected: str) -> None:
    with pytest.raises(ModelError, match=expected) as caught:
        parse_spec(data)
    assert caught.value.rule == "bad-spec"


def test_a_name_that_nobody_knows_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "program", "gpt"]) == 2
    assert "expected one of digits, mnist_5k" in capsys.readouterr().err


def test_a_bad_spec_file_is_named_in_the_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(make_form() | {"batch": 0}))
    assert main(["model", "program", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize("spec", [*TINY_SPECS.values(), *(named.spec for named in list_specs())])
def test_a_spec_is_read_back_as_it_was_written(spec: Spec) -> None:
    assert parse_spec(format_spec(spec).encode()) == spec


@pytest.mark.parametrize("text", ["", "1e", ".5", "0.", "1e999", "0x1", "NaN", "٣", "1" * 10, "1 "])
def test_what_is_no_decimal_is_no_rate(text: str) -> None:
    with pytest.raises(ModelError, match="expected a decimal"):
        parse_rate(text)


@given(st.integers(0, 10**6), st.text("0123456789", max_size=12), st.integers(-12, 3))
def test_a_rate_is_the_nearest_unit(whole: int, fraction: str, exponent: int) -> None:
    text = f"{whole}.{fraction}" if fraction else f"{whole}"
    exact = Fraction(text) * Fraction(10) ** exponent * 2**32
    assert abs(parse_rate(f"{text}e{exponent}") - exact) <= Fraction(1, 2)


@given(st.integers(0, 2**32 - 1))
def test_a_rate_is_read_back_as_it_was_written(units: int) -> None:
    assert parse_rate(format_rate(units)) == units
    assert len(format_rate(units)) <= 12


def test_decimals_are_exact_and_rounded_half_up() -> None:
    assert format_ratio(1, 3, 4) == "0.3333"
    assert format_ratio(2, 3, 4) == "0.6667"
    assert format_ratio(1, 8, 2) == "0.13"
    assert format_ratio(10**30 + 1, 10**30, 30) == "1." + "0" * 29 + "1"
    assert format_ratio(0, 0, 2) == "0.00"


def test_a_program_lists_every_op_with_what_it_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "program", "plays-tiny", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    program = build_program(find_spec("plays-tiny").spec)
    ops = [line["op"] for line in lines[:-1]]
    assert [op["index"] for op in ops] == list(range(len(program.ops + program.delta_ops)))
    assert sum(op["macs"] for op in ops) == lines[-1]["totals"]["step_macs"] == program.step_macs
    assert all(tensor["name"] and len(tensor["shape"]) == 2 for op in ops for tensor in op["outputs"])


@pytest.mark.parametrize("name", sorted(TINY_SPECS))
def test_totals_are_what_a_step_holds(name: str) -> None:
    case, state = make_case(name), make_state(name)
    result = run_training_step(case.runner, 0, (*state.weights, *state.moments))
    totals = compute_totals(case.spec)
    assert totals.held_bytes_max == result.bytes_held_max
    assert totals.state_bytes == sum(part.nbytes for part in (*state.weights, *state.moments))
    assert len(list_ops(case.spec)) == totals.ops + len(state.weights)


# Checkpoint files


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    path = tmp_path / "step-000001.safetensors"
    write_state(path, make_state("decoder", 1))
    return path


def rewrite_header(data: bytes, change: Callable[[dict[str, object], dict[str, object]], None]) -> bytes:
    """Return a file whose header and metadata are changed, with lengths and digest made right again."""
    from blake3 import blake3

    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    metadata = json.loads(header["__metadata__"]["mathesis"]) | {"digest": "0" * 64}
    change(header, metadata)
    if "mathesis" in header["__metadata__"]:
        header["__metadata__"]["mathesis"] = json.dumps(metadata, separators=(",", ":"))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = struct.pack("<Q", len(text)) + text + data[8 + size :]
    return data.replace(rb"\"digest\":\"" + b"0" * 64, rb"\"digest\":\"" + blake3(data).hexdigest().encode())


def test_a_file_cut_short_anywhere_is_refused(state_file: Path) -> None:
    data = state_file.read_bytes()
    for size in sorted({0, 1, 7, 8, 9, 100, 2000, len(data) // 2, len(data) - 1}):
        state_file.write_bytes(data[:size])
        with pytest.raises(ModelError) as caught:
            read_state(state_file)
        assert caught.value.rule == "bad-file"


def test_a_file_with_more_behind_it_is_refused(state_file: Path) -> None:
    state_file.write_bytes(state_file.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="bytes of tensors"):
        read_state(state_file)


def test_a_flipped_bit_anywhere_is_refused(state_file: Path) -> None:
    data = state_file.read_bytes()
    places = np.random.default_rng(5).integers(0, len(data), 300).tolist()
    for place in [*range(0, 1600, 13), *places]:
        altered = bytearray(data)
        altered[place] ^= 1 << place % 8
        with pytest.raises(ModelError) as caught:
            decode_state(bytes(altered), "x")
        assert caught.value.rule in ("bad-file", "wrong-digest", "bad-spec")


@pytest.mark.parametrize("size", [2**64 - 1, 2**63, 2**40, (1 << 20) + 1])
def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", size))
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match=f"found a header of {size} bytes"):
        read_state(path)


def test_a_huge_model_in_a_huge_file_is_refused_by_its_header(state_file: Path) -> None:
    with state_file.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match="bytes of tensors"):
        read_state(state_file)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _, metadata: metadata.update(format="other"), "expected mathesis-checkpoint 1"),
        (lambda _, metadata: metadata.update(version=2), "expected mathesis-checkpoint 1"),
        (lambda _, metadata: metadata.update(step=3), "a step of at most 2"),
        (lambda _, metadata: metadata.update(step=-1), "a step of at most 2"),
        (lambda _, metadata: metadata.update(seed="00"), "64 hex digits of seed"),
        (lambda _, metadata: metadata.update(spec_hash="00" * 32), "the spec's own hash"),
        (lambda _, metadata: metadata["spec"].update(batch=4), "the spec's own hash"),
        (lambda _, metadata: metadata["spec"].update(batch=0), "a batch of 1 or more"),
        (lambda _, metadata: metadata["exponents"].update(weight=-23), "expected exponents"),
        (lambda _, metadata: metadata["exponents"].pop("first_moment"), "weights, or weights and both moments"),
        (lambda _, metadata: metadata.update(more=1), "unknown field `more`"),
        (lambda header, _: header["__metadata__"].update(more="1"), "found metadata"),
        (lambda header, _: header.pop("__metadata__") and header.update(__metadata__={}), "found metadata"),
        (lambda header, _: header.pop("head.weight"), "'head.weight' is in one alone"),
        (lambda header, _: header.update(tail=header["head.weight"]), "'tail' is in one alone"),
        (lambda header, _: header["head.weight"].update(dtype="F32"), "head.weight: found F32"),
        (lambda header, _: header["head.weight"].update(shape=[12, 128]), "expected I32 (128, 12)"),
        (lambda header, _: header["head.weight"].update(shape=[128, 12, 1]), "expected I32 (128, 12)"),
        (lambda header, _: header["head.weight"].update(data_offsets=[0, 1 << 50]), "head.weight"),
        (lambda header, _: header["head.weight"].update(data_offsets=[4, 4 + 128 * 48]), "expected"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    state_file: Path, change: Callable[[dict[str, object], dict[str, object]], None], expected: str
) -> None:
    altered = rewrite_header(state_file.read_bytes(), change)
    with pytest.raises(ModelError) as caught:
        decode_state(altered, "x")
    assert caught.value.rule == "bad-file"
    assert expected in str(caught.value)


def test_values_that_the_optimizer_never_makes_are_refused() -> None:
    state = make_state("mlp", 1)
    lowest = np.full_like(state.weights[0], -(2**31))
    with pytest.raises(ModelError, match="found values"):
        decode_state(encode_state(replace(state, weights=(lowest, *state.weights[1:]))), "x")
    negative = np.full_like(state.moments[-1], -1)
    with pytest.raises(ModelError, match="found values"):
        decode_state(encode_state(replace(state, moments=(*state.moments[:-1], negative))), "x")


@pytest.mark.parametrize("name", sorted(TINY_SPECS))
def test_a_state_is_one_file_and_comes_back_as_it_was(name: str) -> None:
    state = make_state(name, 1)
    for kept in (state, strip_moments(state)):
        data = encode_state(kept)
        found = decode_state(data, "x")
        assert (found.spec, found.data_root, found.seed, found.step) == (kept.spec, kept.data_root, kept.seed, 1)
        for one, other in zip((*found.weights, *found.moments), (*kept.weights, *kept.moments), strict=True):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
        assert encode_state(found) == data


def test_two_processes_write_the_same_file(state_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from node.models import read_state, write_state;"
        "write_state(Path(sys.argv[2]), read_state(Path(sys.argv[1])))"
    )
    other = state_file.with_name("other.safetensors")
    subprocess.run([sys.executable, "-c", code, str(state_file), str(other)], check=True)
    assert other.read_bytes() == state_file.read_bytes()
    assert sorted(os.listdir(state_file.parent)) == ["other.safetensors", state_file.name]
