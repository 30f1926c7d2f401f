"""Attention over all heads as one call: the single ops on the device, without keeping what lies between them.

The backward pass makes queries, keys, values and probabilities again, which costs less than holding them. Byte for byte
the runs of ops that `ml.fusion` replaces. It knows no program.
"""

from dataclasses import dataclass

from torch import Tensor

from ml.backends import Groups, Rounding
from ml.backends.cuda.device import upload_constant
from ml.backends.cuda.elementwise import rotate
from ml.backends.cuda.layout import merge_heads, split_heads
from ml.backends.cuda.matmul import multiply_groups
from ml.backends.cuda.quantise import TensorPair, quantise_rows, quantise_transposed
from ml.backends.cuda.softmax import causal_softmax, causal_softmax_backward
from ml.fusion import Attention


@dataclass(frozen=True, slots=True)
class _Heads:
    """Queries, keys and values by (sequence, head, position), turned where positions are rotary."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    groups: int


def _turn(x: Tensor, attention: Attention, is_inverse: bool) -> Tensor:
    if attention.rotation is None:
        return x
    cosines, sines = (upload_constant(part) for part in attention.rotation)
    return rotate(x, cosines, sines, is_inverse)


def _split(qkv: Tensor, attention: Attention) -> _Heads:
    queries, keys, values = (split_heads(qkv, part, attention.heads) for part in range(3))
    groups = len(queries) // attention.heads.context
    return _Heads(_turn(queries, attention, False), _turn(keys, attention, False), values, groups)


def _compute_probabilities(heads: _Heads, attention: Attention) -> Tensor:
    scores = Groups(heads.groups, attention.shifts[0], is_causal=True)
    product = multiply_groups(quantise_rows(heads.queries, None), quantise_rows(heads.keys, None), scores)
    return causal_softmax(product, attention.heads.width)


def attend(qkv: Tensor, attention: Attention) -> Tensor:
    """Return the weighted values (rows, width) int32 F16 of queries, keys and values side by side."""
    heads = _split(qkv, attention)
    p = quantise_rows(_compute_probabilities(heads, attention), None)
    values = quantise_transposed(heads.values, None, heads.groups, None)
    out = multiply_groups(p, values, Groups(heads.groups, attention.shifts[1], is_causal=False))
    return merge_heads((out,), attention.heads)


def attend_backward(qkv: Tensor, gradient: Tensor, attention: Attention, keys: tuple[int, ...]) -> Tensor:
    """Return the gradient of qkv int32 F24 from that of the weighted values; keys are those of `ml.fusion`."""
    heads, width = _split(qkv, attention), attention.heads.width
    groups = heads.groups
    p = _compute_probabilities(heads, attention)
    do = split_heads(gradient, 0, attention.heads)
    dv = _multiply(_view(p, None, groups), _view(do, keys[1], groups), groups, attention.shifts[1])
    causal = Groups(groups, attention.shifts[0], is_causal=True)
    dp = multiply_groups(quantise_rows(do, Rounding(keys[0])), quantise_rows(heads.values, None), causal)
    ds = causal_softmax_backward(p, dp, width)
    rows = quantise_rows(ds, Rounding(keys[2]))
    dq = _multiply(rows, _view(heads.keys, None, groups), groups, attention.shifts[2])
    dk = _multiply(_view(ds, keys[3], groups), _view(heads.queries, None, groups), groups, attention.shifts[2])
    return merge_heads((_turn(dq, attention, True), _turn(dk, attention, True), dv), attention.heads)


def _view(x: Tensor, key: int | None, groups: int) -> TensorPair:
    return quantise_transposed(x, None if key is None else Rounding(key), groups, None)


def _multiply(a: TensorPair, b: TensorPair, groups: int, shift: int) -> Tensor:
    return multiply_groups(a, b, Groups(groups, shift, is_causal=False))
