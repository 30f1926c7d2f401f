"""The float32 copy of a model for programs that know no integers, with a configuration in the style of Hugging Face.

A weight is an int32 in units of 2**-24; as float32 it keeps its 24 highest bits. The module that reads the copy is
`node.models.modeling_mathesis`, which goes with it.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ml.arithmetic import WEIGHT_BITS
from ml.models import build_program
from ml.spec import Decoder, Positions, Spec
from node.models.state_file import ModelState

F32 = npt.NDArray[np.float32]


def make_float_tensors(state: ModelState) -> dict[str, F32]:
    """Return the weights (out, in) float32 by the names that the PyTorch module uses."""
    names = [parameter.name.replace(".", "_") for parameter in build_program(state.spec).parameters]
    pairs = zip(names, state.weights, strict=True)
    return {name: (weights * 2.0**-WEIGHT_BITS).astype(np.float32) for name, weights in pairs}


def encode_float_copy(state: ModelState) -> bytes:
    """Return the safetensors file of the float32 weights."""
    from safetensors.numpy import save  # noqa: PLC0415 - only those who export need it

    return save(make_float_tensors(state), {"format": "pt"})


def encode_config(spec: Spec) -> bytes:
    """Return `config.json` of a model."""
    return (json.dumps(_make_config(spec), indent=2) + "\n").encode()


def read_torch_module() -> bytes:
    """Return the source of the PyTorch module."""
    return Path(__file__).with_name("modeling_mathesis.py").read_bytes()


def _make_config(spec: Spec) -> dict[str, object]:
    model = spec.model
    common: dict[str, object] = {"architectures": ["Mathesis"], "torch_dtype": "float32"}
    if not isinstance(model, Decoder):
        return common | {"model_type": "mathesis-mlp", "widths": list(model.widths), "hidden_act": "relu"}
    return common | {
        "model_type": "mathesis-decoder",
        "vocab_size": model.vocabulary,
        "max_position_embeddings": model.context,
        "hidden_size": model.width,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.hidden,
        "hidden_act": "relu2",
        "position_embedding_type": Positions(model.positions).name.lower(),
        "tie_word_embeddings": bool(model.tied),
    }
