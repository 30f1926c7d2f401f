"""A model trained in integers, as a plain PyTorch module: `Mathesis("DIR")(inputs)` gives logits.

It needs torch and safetensors alone. Inputs are bytes (batch, time) int64, or a classifier's x (batch, in) float32.
Values are rounded where training rounds them; with `is_rounded=False` it is float32 throughout, for training on.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class Mathesis(nn.Module):
    """The model in a directory, from its config.json and the float copy of its weights."""

    def __init__(self, directory: str, is_rounded: bool = True) -> None:
        super().__init__()
        self.config, self.is_rounded = json.loads((Path(directory) / "config.json").read_text()), is_rounded
        self.w = nn.ParameterDict(load_file(Path(directory) / "float" / "model.safetensors"))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, time, vocabulary), or (batch, classes)."""
        c, w, mul, norm, fix = self.config, self.w, self._multiply, self._normalise, self._fix
        if "widths" in c:
            for layer in range(len(c["widths"]) - 1):
                x = mul(x.relu() if layer else x, w[f"layer{layer}"])
            return x
        mask = torch.ones(x.shape[1], x.shape[1], device=x.device).tril().log()
        x = fix(w["embedding"][x] + (w["positions"][: x.shape[1]] if "positions" in w else 0))
        for block in (f"block{layer}" for layer in range(c["num_hidden_layers"])):
            qkv = torch.unflatten(mul(norm(x), w[f"{block}_qkv"]), -1, (3, c["num_attention_heads"], -1))
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            q, k = (q, k) if "positions" in w else (fix(_rotate(q)), fix(_rotate(k)))
            heads = mul((mul(q, k) * q.shape[-1] ** -0.5 + mask).softmax(-1), v.mT)
            x = x + mul(heads.transpose(1, 2).flatten(2), w[f"{block}_out"])
            x = x + mul(fix(mul(norm(x), w[f"{block}_up"]).relu().square()), w[f"{block}_down"])
        return mul(norm(x), w["embedding" if c["tie_word_embeddings"] else "head"])

    def _multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return _round(a) @ _round(b).mT if self.is_rounded else a @ b.mT

    def _fix(self, x: Tensor) -> Tensor:
        return (x * 2**16 + 0.5).floor() / 2**16 if self.is_rounded else x

    def _normalise(self, x: Tensor) -> Tensor:
        return self._fix(x * (x.square().mean(-1, keepdim=True) + 2**-26).rsqrt())


def _round(x: Tensor) -> Tensor:
    scale = torch.exp2(torch.frexp(x.abs().amax(-1, keepdim=True)).exponent - 6)  # 7 bits a row
    return (x / scale + 0.5).floor().clamp(-63, 63) * scale


def _rotate(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] * 10000 ** (-torch.arange(half) / half)
    (a, b), c, s = torch.split(x, half, -1), angles.cos().to(x), angles.sin().to(x)
    return torch.cat((a * c - b * s, a * s + b * c), -1)
