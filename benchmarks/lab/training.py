"""One training run of either side: the same spec, seed, batches and schedule, in integers or in float32.

Batches come from the same generator on both sides, and a run returns what a comparison needs: the loss of each step and
the loss on held-out data. It knows no campaign and writes no file.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import Tensor

from benchmarks.lab.float_model import compute_logits, compute_mean_loss, make_weights
from ml.arithmetic import ACTIVATION_BITS, I32, IntArray
from ml.backends import Backend, get_backend
from ml.checkpoint import Checkpoint, compute_initial_checkpoint
from ml.dataset import Dataset, Examples
from ml.evaluation import compute_evaluation
from ml.models import build_program
from ml.prf import compute_key
from ml.segment import Runner, as_i32, compute_initial_state, compute_rates
from ml.spec import RATE_BITS, Decoder, Spec
from ml.training import run_training_step

BETAS = (7 / 8, 63 / 64)
ROWS_AT_ONCE = 2_048
"""Rows that a float model is scored on at a time."""
OnStep = Callable[[int, float], None]
"""Called with the step and its mean loss in bits."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a run needs: the spec, its data, the seed of its batches, and the held-out tokens to score."""

    spec: Spec
    dataset: Dataset
    segment_seed: bytes
    heldout_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Losses in bits a row (for bytes: bits a byte)."""

    losses: tuple[float, ...]
    """Mean loss of the batch at each step, before the step's update."""
    heldout_loss: float
    heldout_accuracy: float
    heldout_rows: int


def train_integer(job: Job, backend: Backend, on_step: OnStep) -> tuple[Outcome, tuple[IntArray, ...]]:
    """Return the outcome of integer training, and the state after its last step."""
    program = build_program(job.spec)
    checkpoint = compute_initial_checkpoint(program)
    runner = Runner(program, backend, job.dataset, job.segment_seed, checkpoint)
    state, losses = compute_initial_state(program, checkpoint), []
    for step in range(program.steps):
        result = run_training_step(runner, step, state)
        state = result.state
        losses.append(result.loss_f16 / 2**ACTIVATION_BITS / result.rows)
        on_step(step, losses[-1])
    count = len(program.parameters)
    final = Checkpoint(tuple(as_i32(part) for part in state[:count]), checkpoint.momentum)
    found = compute_evaluation(program, backend, final, job.dataset, job.heldout_tokens)
    loss = found.loss_f16 / 2**ACTIVATION_BITS / found.count
    return Outcome(tuple(losses), loss, found.correct / found.count, found.count), state


def train_float(job: Job, on_step: OnStep) -> tuple[Outcome, list[Tensor]]:
    """Return the outcome of float32 AdamW with the integer optimizer's betas, rates and decay, and the last weights."""
    spec = job.spec
    weights = make_weights(compute_initial_checkpoint(build_program(spec)))
    decay = spec.weight_decay / 2**RATE_BITS
    optimizer = torch.optim.AdamW(weights, lr=0.0, betas=BETAS, weight_decay=decay, fused=True)
    losses = []
    for step in range(spec.segment_steps):
        optimizer.param_groups[0]["lr"] = compute_rates(spec, 0, step)[0] / 2**RATE_BITS
        loss = compute_mean_loss(spec.model, weights, *draw_float_batch(job, step))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item() / log(2))
        on_step(step, losses[-1])
    return Outcome(tuple(losses), *score_float(job, weights)), weights


def draw_float_batch(job: Job, step: int) -> tuple[Tensor, Tensor]:
    """Return the inputs and labels (rows,) that integer training sees at `step`."""
    spec, data, key = job.spec, job.dataset, compute_key(job.segment_seed, step, 0)
    reference = get_backend("reference")
    if isinstance(data, Examples):
        return _make_float_inputs(data, *reference.draw_batch(data.x, data.labels, key, spec.batch))
    assert isinstance(spec.model, Decoder)
    return _make_float_inputs(data, *reference.draw_windows(data.stream, key, spec.batch, spec.model.context))


def score_float(job: Job, weights: Sequence[Tensor]) -> tuple[float, float, int]:
    """Return mean loss in bits, accuracy and rows on the held-out rows that `ml.evaluation` scores."""
    loss = correct = rows = 0.0
    with torch.no_grad():
        for x, labels in _iterate_heldout(job):
            logits = compute_logits(job.spec.model, weights, x)
            loss += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item() / log(2)
            correct += (logits.argmax(dim=1) == labels).sum().item()
            rows += len(labels)
    return loss / rows, correct / rows, int(rows)


def _iterate_heldout(job: Job) -> Iterator[tuple[Tensor, Tensor]]:
    data, model = job.dataset, job.spec.model
    if isinstance(data, Examples):
        yield _make_float_inputs(data, data.heldout_x, data.heldout_labels)
        return
    assert isinstance(model, Decoder)
    windows = max(1, min(job.heldout_tokens, len(data.heldout) - 1) // model.context)
    at_once = max(1, ROWS_AT_ONCE // model.context)
    text = data.heldout.astype(np.int32)[:, None]
    for first in range(0, windows, at_once):
        start, stop = first * model.context, min(first + at_once, windows) * model.context
        yield _make_float_inputs(data, text[start:stop], text[start + 1 : stop + 1])


def _make_float_inputs(data: Dataset, x: I32, labels: I32) -> tuple[Tensor, Tensor]:
    """Return x as float32, or tokens (rows,) int64, with labels (rows,) int64."""
    targets = torch.from_numpy(labels[:, 0].astype(np.int64))
    if isinstance(data, Examples):
        return torch.from_numpy(x / 2.0**ACTIVATION_BITS).float(), targets
    return torch.from_numpy(x[:, 0].astype(np.int64)), targets
