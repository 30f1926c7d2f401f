"""`provenance.json`: where an exported model comes from, and the hash of every file it came with.

It names the spec, the data, the seed and the steps, and the checkpoint that a run went on from, if it did: from these
anyone can compute the same weights again. It opens no file.
"""

import re
from hashlib import sha256

import msgspec

from ml.manifest import read_builtin_manifests
from ml.spec import compute_spec_hash
from node.models.errors import ModelError
from node.models.evaluate import Score
from node.models.specs import SpecForm, make_form
from node.models.state_file import ModelState

PROVENANCE_BYTES_MAX = 1 << 20
EXPORT_FORMAT = "mathesis-export"
EXPORT_VERSION = 1
STATE_FILE = "model.safetensors"
FLOAT_FILE = "float/model.safetensors"
CONFIG_FILE = "config.json"
MODULE_FILE = "modeling_mathesis.py"
CARD_FILE = "README.md"
PROVENANCE_FILE = "provenance.json"
FILES = (STATE_FILE, FLOAT_FILE, CONFIG_FILE, MODULE_FILE, CARD_FILE)
"""All that have a hash; `provenance.json` itself has none."""
_SHA256 = re.compile("[0-9a-f]{64}")


class FileDigest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must be."""

    sha256: str
    size_bytes: int


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data set a model was trained on, as far as its root tells."""

    root: str
    name: str
    licence: str
    attribution: str


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One stage of training, from a spec's first weights on, or from the checkpoint whose root is `start`."""

    kind: str
    spec_hash: str
    data_root: str
    seed: str
    steps: int
    start: str = ""


class EvaluationResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A score on held-out data; the decimals are strings, exact but for their last digit."""

    loss_f16: int
    correct: int
    count: int
    bits: str
    accuracy: str
    per: str


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of `provenance.json`; hashes are hex."""

    format: str
    version: int
    spec: SpecForm
    spec_hash: str
    data: Data
    seed: str
    steps: int
    checkpoint_digest: str
    lineage: tuple[Origin, ...]
    evaluation: EvaluationResult | None
    files: dict[str, FileDigest]


def describe_data(root: bytes) -> Data:
    """Return what this version knows of a data set's root."""
    for manifest in read_builtin_manifests():
        if manifest.root == root.hex():
            return Data(root.hex(), manifest.name, manifest.licence, manifest.attribution)
    return Data(root.hex(), "", "NOASSERTION", "")


def make_provenance(state: ModelState, digest: str, score: Score | None, files: dict[str, bytes]) -> Provenance:
    """Return the provenance of an export that holds `files`."""
    return Provenance(
        format=EXPORT_FORMAT,
        version=EXPORT_VERSION,
        spec=make_form(state.spec),
        spec_hash=compute_spec_hash(state.spec).hex(),
        data=describe_data(state.data_root),
        seed=state.seed.hex(),
        steps=state.step,
        checkpoint_digest=digest,
        lineage=make_lineage(state),
        evaluation=None if score is None else _make_result(score),
        files={name: FileDigest(sha256(data).hexdigest(), len(data)) for name, data in sorted(files.items())},
    )


def make_lineage(state: ModelState) -> tuple[Origin, ...]:
    """Return the stages of training that a state tells of."""
    spec_hash, root, seed = compute_spec_hash(state.spec).hex(), state.data_root.hex(), state.seed.hex()
    return (Origin("local-run", spec_hash, root, seed, state.step, state.start.hex()),)


def encode_provenance(provenance: Provenance) -> bytes:
    """Return the file of a provenance."""
    return msgspec.json.format(msgspec.json.encode(provenance), indent=2) + b"\n"


def parse_provenance(data: bytes, name: str) -> Provenance:
    """Return the provenance that the file `name` holds; raises ModelError."""
    if len(data) > PROVENANCE_BYTES_MAX:
        raise ModelError("bad-file", f"{name}: found more than {PROVENANCE_BYTES_MAX} bytes, expected less")
    try:
        found = msgspec.json.decode(data, type=Provenance)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError("bad-file", f"{name}: {error}; the file is damaged or of another version") from None
    expected = f"{EXPORT_FORMAT} {EXPORT_VERSION}"
    if f"{found.format} {found.version}" != expected:
        raise ModelError("bad-file", f"{name}: found {found.format!r:.40} {found.version}, expected {expected}")
    if sorted(found.files) != sorted(FILES):
        raise ModelError("bad-file", f"{name}: found files {sorted(found.files)!r:.200}, expected {sorted(FILES)}")
    for file, digest in sorted(found.files.items()):
        if not _SHA256.fullmatch(digest.sha256) or digest.size_bytes < 0:
            raise ModelError("bad-file", f"{name}: found {digest!r:.120} for {file}, expected a SHA-256 and a size")
    return found


def _make_result(score: Score) -> EvaluationResult:
    return EvaluationResult(score.loss_f16, score.correct, score.count, score.bits, score.accuracy, score.per)
