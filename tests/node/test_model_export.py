"""Exports, imports and text from a model: refusals first, then byte for byte, then against plain PyTorch.

The exported module runs in a process of its own that can import nothing of this project.
"""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from ml.arithmetic import I32
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import Dataset, Examples
from ml.evaluation import compute_logits
from ml.models import build_program
from ml.sampling import SamplingRule
from ml.segment import Runner, compute_initial_state
from ml.spec import Decoder, Mlp, Positions
from ml.training import run_training_step
from node.cli import main
from node.models import ModelError, ModelState, read_state, write_state
from node.models.evaluate import Score
from node.models.export import export_model, import_model, strip_moments
from node.models.rates import format_ratio
from node.models.sample import decode_pieces, decode_prompt, iterate_pieces
from node.models.state_file import encode_state
from node.terminal import REPLACEMENT, clean
from tests.support.models import TINY_SPECS, make_case

SCORE = Score(65_536, 1, 2, "0.500000", "0.500000", "byte")
FILES = ("README.md", "config.json", "float/model.safetensors", "model.safetensors", "modeling_mathesis.py")


def make_state(name: str, step: int = 1) -> ModelState:
    """Return the state of a tiny model after `step` steps."""
    case = make_case(name)
    count = len(case.program.parameters)
    tensors = compute_initial_state(case.program, case.runner.checkpoint)
    for done in range(step):
        tensors = run_training_step(case.runner, done, tensors).state
    return ModelState(case.spec, case.dataset.root, bytes(32), step, tensors[:count], tensors[count:])


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    export_model(make_state("decoder"), directory, SCORE, has_moments=True)
    return directory


def rewrite_provenance(directory: Path, change: Callable[[dict[str, object]], None], renew: str = "") -> None:
    """Change the provenance, and make the hash of the file `renew` right again."""
    path = directory / "provenance.json"
    fields = json.loads(path.read_bytes())
    if renew:
        data = (directory / renew).read_bytes()
        fields["files"][renew] = {"sha256": sha256(data).hexdigest(), "size_bytes": len(data)}
    change(fields)
    path.write_text(json.dumps(fields))


def assert_refused(directory: Path, expected: str) -> None:
    target = directory.with_name("back.safetensors")
    with pytest.raises(ModelError) as caught:
        import_model(directory, target)
    assert caught.value.rule in ("bad-file", "wrong-digest")
    assert expected in str(caught.value)
    assert sorted(path.name for path in directory.parent.iterdir()) == [directory.name]


@pytest.mark.parametrize("file", FILES)
def test_an_altered_file_is_refused(exported: Path, file: str) -> None:
    data = bytearray((exported / file).read_bytes())
    data[-1] ^= 1
    (exported / file).write_bytes(data)
    assert_refused(exported, "SHA-256")


@pytest.mark.parametrize("file", [*FILES, "provenance.json"])
def test_a_missing_or_shortened_file_is_refused(exported: Path, file: str) -> None:
    path = exported / file
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    assert_refused(exported, str(path))
    path.unlink()
    assert_refused(exported, str(path))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda fields: fields.update(version=2), "expected mathesis-export 1"),
        (lambda fields: fields.update(more=1), "unknown field `more`"),
        (lambda fields: fields["files"].update({"../../x": fields["files"]["README.md"]}), "found files"),
        (lambda fields: fields["files"].pop("README.md"), "found files"),
        (lambda fields: fields["files"]["README.md"].update(sha256="0"), "a SHA-256 and a size"),
        (lambda fields: fields["files"]["README.md"].update(size_bytes=-1), "a SHA-256 and a size"),
        (lambda fields: fields.update(steps=2), "found steps 2"),
        (lambda fields: fields.update(seed="11" * 32), "found seed"),
        (lambda fields: fields["data"].update(root="11" * 32), "found data root"),
        (lambda fields: fields.update(spec_hash="11" * 32), "found spec hash"),
        (lambda fields: fields.update(checkpoint_digest="11" * 32), "found checkpoint digest"),
        (lambda fields: fields["spec"].update(batch=4), "found spec"),
        (lambda fields: fields["lineage"][0].update(steps=2), "found lineage"),
        (lambda fields: fields["lineage"][0].update(start="11" * 32), "found lineage"),
        (lambda fields: fields["lineage"][0].update(kind="chain"), "found lineage"),
    ],
)
def test_a_provenance_that_says_something_else_is_refused(
    exported: Path, change: Callable[[dict[str, object]], None], expected: str
) -> None:
    rewrite_provenance(exported, change)
    assert_refused(exported, expected)


@pytest.mark.parametrize("file", ["model.safetensors", "float/model.safetensors", "README.md"])
def test_a_file_larger_than_its_model_is_refused_before_it_is_read(exported: Path, file: str) -> None:
    with (exported / file).open("r+b") as opened:
        opened.truncate(1 << 40)

    def claim(fields: dict[str, object]) -> None:
        files = fields["files"]
        assert isinstance(files, dict)
        files[file]["size_bytes"] = 1 << 40

    rewrite_provenance(exported, claim)
    assert_refused(exported, str(exported / file))


def test_a_float_copy_of_other_weights_is_refused(exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    export_model(make_state("decoder", 2), other, SCORE, has_moments=True)
    shutil.copy(other / "float/model.safetensors", exported / "float/model.safetensors")
    shutil.rmtree(other)
    rewrite_provenance(exported, lambda _: None, "float/model.safetensors")
    assert_refused(exported, "than the integers say")


def test_nothing_is_overwritten(exported: Path, tmp_path: Path) -> None:
    before = (exported / "README.md").read_bytes()
    with pytest.raises(ModelError, match="exists"):
        export_model(make_state("mlp"), exported, None, has_moments=False)
    assert (exported / "README.md").read_bytes() == before
    target = tmp_path / "mine.safetensors"
    target.write_bytes(b"mine")
    with pytest.raises(ModelError, match="exists"):
        import_model(exported, target)
    assert target.read_bytes() == b"mine"


def test_moments_that_are_not_there_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="without moments"):
        export_model(strip_moments(make_state("mlp")), tmp_path / "model", None, has_moments=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(TINY_SPECS))
@pytest.mark.parametrize("has_moments", [True, False])
def test_an_exported_model_comes_back_byte_for_byte(tmp_path: Path, name: str, has_moments: bool) -> None:
    state = make_state(name)
    export_model(state, tmp_path / "model", SCORE, has_moments)
    import_model(tmp_path / "model", tmp_path / "back.safetensors")
    expected = encode_state(state if has_moments else strip_moments(state))
    assert (tmp_path / "back.safetensors").read_bytes() == expected
    assert read_state(tmp_path / "back.safetensors").step == 1


def test_a_card_says_what_a_reader_needs(exported: Path) -> None:
    card, found = (exported / "README.md").read_text(), json.loads((exported / "provenance.json").read_bytes())
    for fact in (
        found["spec_hash"],
        found["seed"],
        found["data"]["root"],
        "0.500000 bits a byte",
        "local-run, 1 steps",
    ):
        assert fact in card


# The PyTorch module


def test_the_module_is_short_and_needs_torch_and_safetensors_alone(exported: Path) -> None:
    text = (exported / "modeling_mathesis.py").read_text()
    tree = ast.parse(text)
    holders = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    described = [holder.body[0] for holder in holders if ast.get_docstring(holder)]
    documentation = {line for node in described for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    lines = [line for number, line in enumerate(text.splitlines(), start=1) if number not in documentation]
    assert len([line for line in lines if line.strip()]) <= 40
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} == {"json", "pathlib", "torch", "safetensors"}


_RUN = """
import sys, numpy as np, torch
sys.path = [place for place in sys.path if place != sys.argv[2]]
from modeling_mathesis import Mathesis
inputs = torch.from_numpy(np.load("inputs.npy"))
with torch.no_grad():
    np.save("logits.npy", np.stack([Mathesis(".", is_rounded)(inputs).numpy() for is_rounded in (True, False)]))
assert not {"ml", "node", "chain"} & set(sys.modules), "the project was imported"
"""


F32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

MODELS: dict[str, Mlp | Decoder] = {
    "mlp": Mlp((64, 32, 10)),
    "learned": Decoder(128, 32, 24, 2, 2, 48, int(Positions.LEARNED), 0),
    "rotary-tied": Decoder(128, 32, 24, 2, 2, 48, int(Positions.ROTARY), 1),
}
STEPS = 30


def run_module(directory: Path, inputs: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> F32:
    """Return the exported module's logits, rounded and not, from a process that cannot import this project."""
    np.save(directory / "inputs.npy", inputs)
    command = [sys.executable, "-c", _RUN, ".", str(Path(__file__).parents[2])]
    subprocess.run(command, cwd=directory, check=True, env={"PYTHONPATH": "."})
    logits: F32 = np.load(directory / "logits.npy")
    return logits


def train_small(model: Mlp | Decoder) -> tuple[ModelState, Runner]:
    """Return a small model that has learned something."""
    case = make_case("mlp" if isinstance(model, Mlp) else "decoder")
    spec = replace(case.spec, model=model, batch=8, segment_steps=STEPS, warmup_steps=4, decay_steps=20)
    program = build_program(spec)
    runner = replace(case.runner, program=program, checkpoint=compute_initial_checkpoint(program))
    tensors = compute_initial_state(program, runner.checkpoint)
    for step in range(STEPS):
        tensors = run_training_step(runner, step, tensors).state
    count = len(program.parameters)
    return ModelState(spec, runner.dataset.root, bytes(32), STEPS, tensors[:count], tensors[count:]), runner


def make_heldout(dataset: Dataset, model: Mlp | Decoder) -> tuple[I32, I32]:
    """Return held-out inputs and labels (rows, 1) as the integer model takes them."""
    if isinstance(dataset, Examples) or isinstance(model, Mlp):
        assert isinstance(dataset, Examples)
        return dataset.heldout_x, dataset.heldout_labels
    rows = min(2_048, len(dataset.heldout) - 1) // model.context * model.context
    text = dataset.heldout[: rows + 1].astype(np.int32)[:, None]
    return text[:-1], text[1:]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_plain_pytorch_agrees_with_the_integers(tmp_path: Path, name: str) -> None:
    """Rounded as training rounds, or within what 7-bit operands alone explain; a wrong transpose moves far more."""
    model = MODELS[name]
    state, runner = train_small(model)
    x, labels = make_heldout(runner.dataset, model)
    logits, loss = compute_logits(runner.program, runner.backend, state.checkpoint, runner.dataset, (x, labels))
    export_model(state, tmp_path / "model", None, has_moments=False)
    is_text = isinstance(model, Decoder)
    inputs = x.reshape(-1, 32).astype(np.int64) if is_text else x.astype(np.float32) / np.float32(65_536)
    found = run_module(tmp_path / "model", inputs).reshape(2, *logits.shape).astype(np.float64)
    ours, rows = logits / 65_536, np.arange(len(labels))
    for theirs, least, furthest in zip(found, (0.99, 0.95), (0.01, 0.05), strict=True):
        bits = (np.log(np.exp(theirs).sum(axis=1)) - theirs[rows, labels[:, 0]]).mean() / np.log(2)
        assert abs(bits - loss.mean() / 65_536) <= 0.01
        assert np.std(theirs - ours) <= furthest * np.std(ours)
        assert (theirs.argmax(axis=1) == ours.argmax(axis=1)).mean() >= least


# Text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tb\n", "a\tb\n"),
        ("\x1b[2J", f"{REPLACEMENT}[2J"),
        ("\x00\x7f\x9b\r", REPLACEMENT * 4),
        ("h\u00e9 \u20ac", "h\u00e9 \u20ac"),
    ],
)
def test_characters_that_steer_a_terminal_are_replaced(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("prompt", "drawn", "texts"),
    [
        (b"caf\xc3", b"\xa9!", ["\u00e9", "!"]),
        (b"", b"\xe2\x82\xac", ["", "", "\u20ac"]),
        (b"", b"\xe2\x82a", ["", "", f"{REPLACEMENT}a"]),
        (b"", b"a\xe2\x82", ["a", "", REPLACEMENT]),
        (b"\xff", b"\x1b", [REPLACEMENT]),
    ],
)
def test_characters_come_with_the_byte_that_completes_them(prompt: bytes, drawn: bytes, texts: list[str]) -> None:
    pieces = list(decode_pieces(prompt, iter(drawn), len(drawn)))
    assert [piece.text for piece in pieces] == texts
    assert decode_prompt(prompt) == prompt.decode("utf-8", "ignore" if prompt != b"\xff" else "replace")


def test_bytes_that_are_no_utf8_are_replaced_and_nothing_is_lost_at_the_end() -> None:
    """A model of 256 bytes that has learned nothing draws every byte alike."""
    spec = replace(TINY_SPECS["decoder"], model=Decoder(256, 16, 8, 1, 1, 8, int(Positions.LEARNED), 0))
    weights = compute_initial_checkpoint(build_program(spec)).weights
    state = ModelState(spec, bytes(32), bytes(32), 0, weights, ())
    for seed in range(3):
        pieces = list(iterate_pieces(state, get_backend("reference"), b"\xc3", SamplingRule(64 << 16, 0, seed), 60))
        drawn, text = bytes(piece.byte for piece in pieces), "".join(piece.text for piece in pieces)
        assert len(drawn) == 60
        assert text.endswith(clean((b"\xc3" + drawn).decode("utf-8", "replace"))[1:])
        text.encode()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "step-000001.safetensors"
    write_state(path, make_state("decoder"))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["model", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("--temperature", "65"), 2, "temperature"),
        (("--temperature", "0.01"), 2, "temperature"),
        (("--temperature", "warm"), 2, "expected a decimal"),
        (("--top-k", "-1"), 2, "--top-k"),
        (("--seed", str(2**64)), 2, "--seed"),
        (("--bytes", "0"), 2, "--bytes"),
        (("--prompt", "caf\u00e9"), 2, "token 195"),
        (("--backend", "tpu"), 2, "--backend"),
    ],
)
def test_a_sample_that_cannot_be_is_refused(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, expected: str
) -> None:
    found, out, error = run(capsys, "sample", str(checkpoint), "--backend", "reference", *arguments)
    assert (found, out) == (code, "")
    assert expected in error


def test_a_classifier_writes_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_state(tmp_path / "mlp.safetensors", make_state("mlp"))
    code, out, error = run(capsys, "sample", str(tmp_path / "mlp.safetensors"), "--backend", "reference")
    assert (code, out) == (2, "")
    assert "found a classifier" in error


def test_a_sample_repeats_and_streams_what_json_says(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("sample", str(checkpoint), "--prompt", "to be ", "--bytes", "20", "--backend", "reference")
    code, text, _ = run(capsys, *arguments)
    assert (code, run(capsys, *arguments)[1]) == (0, text)
    record = json.loads(run(capsys, *arguments, "--json")[1])
    assert text == f"to be {record['text']}\n"
    assert len(record["bytes"]) == 20
    assert run(capsys, *arguments, "--seed", "1")[1] != text


def test_a_score_is_exact_and_the_same_for_the_copy_that_was_shared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, directory = tmp_path / "mlp.safetensors", tmp_path / "model"
    write_state(path, make_state("mlp"))
    code, out, _ = run(capsys, "evaluate", str(path), "--backend", "reference", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["bits_per_example"] == format_ratio(record["loss_f16"], record["count"] << 16, 6)
    assert run(capsys, "export", str(path), str(directory), "--backend", "reference")[0] == 0
    evaluation = json.loads((directory / "provenance.json").read_bytes())["evaluation"]
    assert (evaluation["loss_f16"], evaluation["correct"]) == (record["loss_f16"], record["correct"])
    back = str(tmp_path / "back.safetensors")
    assert run(capsys, "import", str(directory), "--out", back)[0] == 0
    assert run(capsys, "evaluate", back, "--backend", "reference", "--json")[1] == out
    assert json.loads(run(capsys, "show", back, "--json")[1])["has_moments"] is False


@pytest.mark.parametrize("data", ["digits", "nothing-like-it"])
def test_a_score_on_data_that_does_not_fit_is_refused(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    code, out, error = run(capsys, "evaluate", str(checkpoint), "--data", data, "--backend", "reference")
    assert (code, out) == (2, "")
    assert "expected a text for a decoder" in error or "unknown-dataset" in error
