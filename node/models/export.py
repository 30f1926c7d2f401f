"""Models out and in: a folder that other programs read, and back from it to the checkpoint, byte for byte.

`model.safetensors` of an export is a checkpoint file, with the optimizer's moments or without. Nothing of an import is
kept unless every file is the one that its provenance names and all of them say the same.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np

from ml.spec import compute_spec_hash
from node.models import float_copy, provenance
from node.models.card import write_card
from node.models.describe import compute_totals
from node.models.errors import ModelError
from node.models.evaluate import Score
from node.models.files import refuse_existing, write_folder, write_new
from node.models.provenance import FileDigest, Provenance
from node.models.specs import make_form
from node.models.state_file import SUFFIX, ModelState, decode_state, encode_state, get_digest
from node.models.state_header import HEADER_BYTES_MAX, parse_header

TEXT_BYTES_MAX = 1 << 20
"""Of card, configuration and module, which are a few KiB."""


def export_model(state: ModelState, directory: Path, score: Score | None, has_moments: bool) -> Provenance:
    """Write a model and all that goes with it as a new folder, whole or not at all; return what it says of itself.

    Raises ModelError when something is there already or moments are asked for that are not held, and OSError.
    """
    directory = directory.expanduser()
    refuse_existing(directory)
    if has_moments and not state.moments:
        raise ModelError("incomplete", "found a checkpoint without moments, expected them; export without --moments")
    kept = state if has_moments else strip_moments(state)
    data = encode_state(kept)
    files = {
        provenance.STATE_FILE: data,
        provenance.FLOAT_FILE: float_copy.encode_float_copy(kept),
        provenance.CONFIG_FILE: float_copy.encode_config(kept.spec),
        provenance.MODULE_FILE: float_copy.read_torch_module(),
    }
    totals, digest = compute_totals(kept.spec), get_digest(data)
    draft = provenance.make_provenance(kept, digest, score, files)
    files[provenance.CARD_FILE] = write_card(directory.name, kept.spec, totals, draft)
    final = provenance.make_provenance(kept, digest, score, files)
    write_folder(directory, files | {provenance.PROVENANCE_FILE: provenance.encode_provenance(final)})
    return final


def import_model(directory: Path, target: Path) -> ModelState:
    """Write the checkpoint of an exported model to `target`, which must not exist, and return it.

    Raises ModelError when a file is missing, altered or does not agree with the others, and OSError.
    """
    refuse_existing(target)
    data, state = read_export(directory)
    write_new(target, data)
    return state


def read_export(directory: Path) -> tuple[bytes, ModelState]:
    """Return the checkpoint file in an exported model, and its state; raises ModelError or OSError."""
    name = directory / provenance.PROVENANCE_FILE
    if not name.is_file():
        raise ModelError("bad-file", f"found no {name}, expected an exported model")
    with name.open("rb") as file:
        found = provenance.parse_provenance(file.read(provenance.PROVENANCE_BYTES_MAX + 1), str(name))
    paths = {file: directory / file for file in provenance.FILES}
    for label, path in sorted(paths.items()):
        _validate_size(path, found.files[label])
    _validate_sizes_by_header(paths[provenance.STATE_FILE], paths[provenance.FLOAT_FILE])
    contents = {label: _read_file(paths[label], found.files[label]) for label in provenance.FILES}
    data = contents[provenance.STATE_FILE]
    state = decode_state(data, str(paths[provenance.STATE_FILE]))
    _validate_provenance(found, state, get_digest(data), str(name))
    _validate_float_copy(state, contents[provenance.FLOAT_FILE], str(paths[provenance.FLOAT_FILE]))
    return data, state


def strip_moments(state: ModelState) -> ModelState:
    """Return the state without the optimizer's moments: what scoring, sampling and sharing need."""
    return ModelState(state.spec, state.data_root, state.seed, state.step, state.weights, (), state.start)


def _validate_size(path: Path, expected: FileDigest) -> None:
    if not path.is_file():
        raise ModelError("bad-file", f"found no {path}, expected it as provenance.json names it; copy the whole folder")
    size = path.stat().st_size
    if size != expected.size_bytes:
        raise ModelError("wrong-digest", f"{path}: found {size} bytes, expected {expected.size_bytes}; copy it again")
    if path.suffix != SUFFIX and size > TEXT_BYTES_MAX:
        raise ModelError("bad-file", f"{path}: found {size} bytes, expected a text of at most {TEXT_BYTES_MAX}")


def _validate_sizes_by_header(state_path: Path, float_path: Path) -> None:
    """Refuse files that are larger than the model they say they are, before they are read."""
    size = state_path.stat().st_size
    with state_path.open("rb") as file:
        header = parse_header(file.read(8 + HEADER_BYTES_MAX), size, str(state_path))
    floats = 4 * compute_totals(header.spec).parameters
    if not floats <= float_path.stat().st_size <= floats + HEADER_BYTES_MAX:
        found = float_path.stat().st_size
        raise ModelError("bad-file", f"{float_path}: found {found} bytes, expected {floats} of weights and a header")


def _read_file(path: Path, expected: FileDigest) -> bytes:
    with path.open("rb") as file:
        data = file.read(expected.size_bytes + 1)
    digest = sha256(data).hexdigest()
    if digest != expected.sha256:
        raise ModelError(
            "wrong-digest",
            f"{path}: found SHA-256 {digest[:16]}, expected {expected.sha256[:16]}; the file was altered or damaged",
        )
    return data


def _validate_provenance(found: Provenance, state: ModelState, digest: str, name: str) -> None:
    pairs = (
        ("spec hash", found.spec_hash, compute_spec_hash(state.spec).hex()),
        ("data root", found.data.root, state.data_root.hex()),
        ("seed", found.seed, state.seed.hex()),
        ("steps", found.steps, state.step),
        ("spec", found.spec, make_form(state.spec)),
        ("lineage", found.lineage, provenance.make_lineage(state)),
        ("checkpoint digest", found.checkpoint_digest, digest),
    )
    for label, one, other in pairs:
        if one != other:
            raise ModelError("bad-file", f"{name}: found {label} {one!r:.80}, expected {other!r:.90} as in the weights")


def _validate_float_copy(state: ModelState, data: bytes, name: str) -> None:
    from safetensors import SafetensorError  # noqa: PLC0415 - only those who import need it
    from safetensors.numpy import load  # noqa: PLC0415

    expected = float_copy.make_float_tensors(state)
    try:
        found = load(data)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ModelError("bad-file", f"{name}: {error}; expected the float copy of the weights") from None
    if sorted(found) != sorted(expected):
        raise ModelError("bad-file", f"{name}: found tensors {sorted(found)!r:.80}, expected {sorted(expected)!r:.80}")
    for tensor, values in sorted(expected.items()):
        if found[tensor].dtype != values.dtype or not np.array_equal(found[tensor], values):
            raise ModelError("bad-file", f"{name}: found another {tensor} than the integers say, expected the same")
