"""The data of a model: loaded by name or by the root in a checkpoint, and refused when it does not fit.

What kind of data a name stands for is known before it is fetched, so a mistake costs no download. It knows no source;
`node.datasets` does.
"""

from chain.errors import DecodeError
from chain.primitives import Hash
from ml.dataset import Dataset
from ml.fit import validate_fit
from ml.spec import Decoder, Spec
from node.datasets import find_manifest, load_dataset, load_dataset_by_root
from node.datasets.progress import OnProgress, ignore_progress
from node.models.errors import ModelError
from node.models.state_file import ModelState


def load_data(spec: Spec, name: str, on_progress: OnProgress = ignore_progress) -> Dataset:
    """Return the data set called `name`, split as `spec` says; raises ModelError, DatasetError or OSError."""
    kind = find_manifest(name)[0].parser.kind
    if (kind == "text") != isinstance(spec.model, Decoder):
        expected = "a text for a decoder" if isinstance(spec.model, Decoder) else "labelled examples for a classifier"
        raise ModelError("bad-data", f"{name}: found {kind}, expected {expected}; `mathesis dataset list` shows which")
    try:
        return validate(spec, load_dataset(name, spec.heldout, on_progress))
    except DecodeError as error:
        raise ModelError("bad-data", f"{name}: {error}") from None


def find_data(state: ModelState, name: str | None, on_progress: OnProgress = ignore_progress) -> Dataset:
    """Return the data set of a name, or the one that a model was trained on; raises as `load_data` does."""
    if name is not None:
        return load_data(state.spec, name, on_progress)
    return validate(state.spec, load_dataset_by_root(Hash(state.data_root), state.spec.heldout, on_progress))


def validate(spec: Spec, dataset: Dataset) -> Dataset:
    """Return `dataset` when `spec`'s model can be trained and scored on it; raises ModelError."""
    try:
        validate_fit(spec, dataset)
    except DecodeError as error:
        raise ModelError("bad-data", str(error)) from None
    return dataset
