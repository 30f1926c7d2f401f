"""Whether a data set fits a model: the shapes and ranges that training relies on.

A spec and a data set come from different hands, and only here do they meet before the first step.
"""

from chain.errors import DecodeError
from ml.dataset import Dataset, Examples
from ml.spec import Decoder, Spec


def validate_fit(spec: Spec, dataset: Dataset) -> None:
    """Check that `spec`'s model can be trained and scored on `dataset`; raises DecodeError."""
    model = spec.model
    if isinstance(model, Decoder):
        if isinstance(dataset, Examples):
            raise DecodeError("data set: found labelled examples, expected a text for a decoder")
        _expect("bytes of training text", len(dataset.stream), model.context + 1)
        _expect("bytes of held-out text", len(dataset.heldout), model.context + 1)
        highest = max(int(dataset.stream.max()), int(dataset.heldout.max()))
        if highest >= model.vocabulary:
            raise DecodeError(f"data set: found byte {highest}, expected bytes below the vocabulary {model.vocabulary}")
        return
    if not isinstance(dataset, Examples):
        raise DecodeError("data set: found a text, expected labelled examples for a classifier")
    _expect("held-out examples", len(dataset.heldout_x), 1)
    width, classes = dataset.x.shape[1], model.widths[-1]
    if width != model.widths[0]:
        raise DecodeError(f"data set: found {width} inputs an example, expected the model's {model.widths[0]}")
    highest = max(int(dataset.labels.max()), int(dataset.heldout_labels.max()))
    if highest >= classes:
        raise DecodeError(f"data set: found label {highest}, expected labels below the model's {classes} classes")


def _expect(what: str, found: int, least: int) -> None:
    if found < least:
        raise DecodeError(f"data set: found {found} {what}, expected at least {least}; change how much is held out")
