"""The models of `ml` in float32 PyTorch: same shapes, same first weights, ordinary arithmetic.

It is what integer training is compared with, and an independent statement of what `ml.mlp` and `ml.decoder` compute:
gradients come from autograd. It shares with `ml` only initial weights and the table of rotary angles.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ml.arithmetic import WEIGHT_BITS
from ml.backends.reference import NORM_EPSILON
from ml.checkpoint import Checkpoint
from ml.rotary import ROTATION_BITS, get_rotation_table
from ml.spec import Decoder, Mlp, Positions

EPSILON = NORM_EPSILON / 2**32


def make_weights(checkpoint: Checkpoint) -> list[Tensor]:
    """Return the checkpoint's weights F24 as float32 leaves that ask for gradients, by parameter."""
    return [torch.from_numpy(part / 2.0**WEIGHT_BITS).float().requires_grad_() for part in checkpoint.weights]


def compute_logits(model: Mlp | Decoder, weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """Return logits (rows, classes) of x: (rows, in) float32, or tokens (rows,) int64 of whole windows."""
    return _compute_mlp(weights, x) if isinstance(model, Mlp) else _compute_decoder(model, weights, x)


def compute_mean_loss(model: Mlp | Decoder, weights: Sequence[Tensor], x: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over the rows, in nats; labels are (rows,) int64."""
    return functional.cross_entropy(compute_logits(model, weights, x), labels)


def _compute_mlp(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    for part in weights[:-1]:
        x = functional.relu(functional.linear(x, part))
    return functional.linear(x, weights[-1])


def _compute_decoder(model: Decoder, weights: Sequence[Tensor], tokens: Tensor) -> Tensor:
    parts = list(weights)
    embedding = parts.pop(0)
    x = functional.embedding(tokens.reshape(-1, model.context), embedding)
    turns = None
    if model.positions == Positions.LEARNED:
        x = x + parts.pop(0)
    else:
        cosines, sines = get_rotation_table(model.context, model.head_width)
        turns = tuple(torch.from_numpy(part / 2.0**ROTATION_BITS).float() for part in (cosines, sines))
    head = embedding if model.tied else parts.pop()
    for layer in range(model.layers):
        qkv, out, up, down = parts[4 * layer : 4 * layer + 4]
        x = x + functional.linear(_attend(model, functional.linear(_normalise(x), qkv), turns), out)
        x = x + functional.linear(functional.relu(functional.linear(_normalise(x), up)).square(), down)
    return functional.linear(_normalise(x), head).reshape(-1, model.vocabulary)


def _normalise(x: Tensor) -> Tensor:
    return functional.rms_norm(x, (x.shape[-1],), eps=EPSILON)


def _attend(model: Decoder, qkv: Tensor, turns: tuple[Tensor, ...] | None) -> Tensor:
    """Return causal attention (sequences, context, width) of queries, keys and values side by side."""
    split = qkv.reshape(len(qkv), model.context, 3, model.heads, model.head_width)
    queries, keys, values = split.permute(2, 0, 3, 1, 4)
    if turns is not None:
        queries, keys = _rotate(queries, turns), _rotate(keys, turns)
    mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    return mixed.transpose(1, 2).reshape(len(qkv), model.context, model.width)


def _rotate(x: Tensor, turns: tuple[Tensor, ...]) -> Tensor:
    (first, second), (cosines, sines) = x.chunk(2, dim=-1), turns
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], dim=-1)
