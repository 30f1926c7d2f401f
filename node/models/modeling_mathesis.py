"""A model trained in integers, as a plain PyTorch module: `Mathesis("DIR")(inputs)` gives logits.

It needs torch and safetensors alone. Inputs are bytes (batch, time) int64, or a classifier's x (batch, in) float32.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention


class Mathesis(nn.Module):
    """The model in a directory, from its config.json and the float copy of its weights."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.config = json.loads((Path(directory) / "config.json").read_text())
        self.w = nn.ParameterDict(load_file(Path(directory) / "float" / "model.safetensors"))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, time, vocabulary), or (batch, classes)."""
        c, w = self.config, self.w
        if "widths" in c:
            for layer in range(len(c["widths"]) - 1):
                x = linear(x.relu() if layer else x, w[f"layer{layer}"])
            return x
        x = w["embedding"][x] + (w["positions"][: x.shape[1]] if "positions" in w else 0)
        for block in (f"block{layer}" for layer in range(c["num_hidden_layers"])):
            qkv = torch.unflatten(linear(_norm(x), w[f"{block}_qkv"]), -1, (3, c["num_attention_heads"], -1))
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            q, k = (q, k) if "positions" in w else (_rotate(q), _rotate(k))
            heads = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + linear(heads, w[f"{block}_out"])
            x = x + linear(linear(_norm(x), w[f"{block}_up"]).relu().square(), w[f"{block}_down"])
        return linear(_norm(x), w["embedding" if c["tie_word_embeddings"] else "head"])


def _norm(x: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 2**-26).rsqrt()


def _rotate(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] * 10000 ** (-torch.arange(half) / half)
    (a, b), c, s = torch.split(x, half, -1), angles.cos().to(x), angles.sin().to(x)
    return torch.cat((a * c - b * s, a * s + b * c), -1)
