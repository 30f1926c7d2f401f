"""The float32 twin computes what the integer programs compute: same batches, near losses, near gradients.

Its gradients come from autograd, so that this is an independent check of every backward pass of `ml`.
"""

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch

from benchmarks.lab.float_model import compute_mean_loss, make_weights
from benchmarks.lab.training import Job, draw_float_batch, score_float, train_float, train_integer
from ml.backends import get_backend
from ml.evaluation import compute_evaluation
from ml.models import build_program
from ml.program import OpKind
from ml.segment import StepTensors, compute_initial_state, run_step
from tests.support.models import TINY_SPECS, Case, make_case

torch.set_num_threads(1)


def make_job(case: Case) -> Job:
    return Job(case.spec, case.dataset, case.runner.segment_seed, 1024)


def run_first_step(case: Case) -> StepTensors:
    return run_step(case.runner, 0, compute_initial_state(case.program, case.runner.checkpoint))


@pytest.mark.parametrize("name", TINY_SPECS)
def test_first_step_agrees(name: str) -> None:
    case = make_case(name)
    job, tensors = make_job(case), run_first_step(case)
    weights = make_weights(case.runner.checkpoint)
    x, labels = draw_float_batch(job, 0)
    drawn_x, drawn_labels = (tensors[output] for output in case.program.ops[0].outputs)
    assert np.array_equal(labels.numpy(), drawn_labels[:, 0])
    assert np.allclose(x.numpy().reshape(drawn_x.shape), drawn_x / (1 if x.dtype == torch.int64 else 2**16))
    loss = compute_mean_loss(case.spec.model, weights, x, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() / log(2) == pytest.approx(tensors[case.program.loss].mean() / 2**16, rel=0.01)
    for op in case.program.ops:
        if op.kind is OpKind.ADAM:
            gradient = weights[op.layer].grad
            assert gradient is not None
            ours, theirs = tensors[op.inputs[3]].ravel(), gradient.numpy().ravel()
            correlation = np.corrcoef(ours, theirs)[0, 1]
            assert correlation > 0.98, case.program.parameters[op.layer].name


@pytest.mark.parametrize("name", ["mlp", "decoder", "decoder-rotary"])
def test_both_are_scored_on_the_same_rows(name: str) -> None:
    case = make_case(name)
    job, weights = make_job(case), make_weights(case.runner.checkpoint)
    loss, accuracy, rows = score_float(job, weights)
    found = compute_evaluation(case.program, case.runner.backend, case.runner.checkpoint, case.dataset, 1024)
    assert rows == found.count
    assert loss == pytest.approx(found.loss_f16 / 2**16 / found.count, rel=0.005)
    assert accuracy == pytest.approx(found.correct / found.count, abs=0.03)


@pytest.mark.parametrize("name", ["mlp", "decoder"])
def test_losses_and_weights_stay_together_over_steps(name: str) -> None:
    case = make_case(name)
    spec = replace(case.spec, batch=16, learning_rate=1 << 25, weight_decay=2**32 - 1)
    job = replace(make_job(case), spec=replace(spec, segment_steps=12, warmup_steps=2, decay_steps=10))
    ours, state = train_integer(job, get_backend("reference"), lambda _step, _loss: None)
    theirs, weights = train_float(job, lambda _step, _loss: None)
    assert len(state) == len(build_program(job.spec).state_outputs)
    for part, weight in zip(state, weights, strict=False):
        mine, other = part.ravel() / 2**24, weight.detach().numpy().ravel()
        assert np.corrcoef(mine, other)[0, 1] > 0.95
        assert np.linalg.norm(mine) == pytest.approx(np.linalg.norm(other), rel=0.01)
    assert ours.losses[0] - ours.losses[-1] > 0.3
    assert np.allclose(ours.losses, theirs.losses, rtol=0.02)
    assert ours.heldout_loss == pytest.approx(theirs.heldout_loss, rel=0.02)
