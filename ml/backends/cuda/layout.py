"""Moving elements about on the device without arithmetic: batches drawn, heads split and merged, transposes.

torch's own copies serve here; indexes are drawn on the host by the generator of `ml.prf`, and data sets stay on the
device. Twins of the methods of the same names in `ml.backends.reference`.
"""

import numpy as np
import torch
from torch import Tensor

from ml.backends import Heads
from ml.backends.cuda.device import get_device
from ml.prf import draw_array_below


def draw_batch(x: Tensor, labels: Tensor, key: int, batch: int) -> tuple[Tensor, Tensor]:
    """Return the rows whose indexes are (prf * n) >> 64."""
    rows = torch.from_numpy(draw_array_below(key, batch, len(x))).to(get_device())
    return x[rows], labels[rows]


def draw_windows(stream: Tensor, key: int, batch: int, context: int) -> tuple[Tensor, Tensor]:
    """Return stretches that start at (prf * (n - context)) >> 64; a target is the next token."""
    starts = torch.from_numpy(draw_array_below(key, batch, len(stream) - context)).to(get_device())
    places = (starts[:, None] + torch.arange(context, device=starts.device)).reshape(-1, 1)
    return stream[places].to(torch.int32), stream[places + 1].to(torch.int32)


def transpose(x: Tensor) -> Tensor:
    """Return x transposed, laid out by rows."""
    return x.T.contiguous()


def split_heads(x: Tensor, part: int, heads: Heads) -> Tensor:
    """Return one part of the columns, by (sequence, head, position)."""
    width = heads.heads * heads.width
    columns = x[:, part * width : (part + 1) * width]
    split = columns.reshape(-1, heads.context, heads.heads, heads.width).permute(0, 2, 1, 3)
    return split.reshape(-1, heads.width).contiguous()


def merge_heads(parts: tuple[Tensor, ...], heads: Heads) -> Tensor:
    """Return the parts side by side, by (sequence, position)."""
    shape = (-1, heads.heads, heads.context, heads.width)
    blocks = [part.reshape(shape).permute(0, 2, 1, 3) for part in parts]
    return torch.stack(blocks, dim=2).reshape(-1, len(parts) * heads.heads * heads.width).contiguous()


def get_positions(rows: int, context: int) -> Tensor:
    """Return the position of each row in its sequence: (rows, 1) int32."""
    return torch.from_numpy((np.arange(rows, dtype=np.int32) % context)[:, None]).to(get_device())
