"""Scores of held-out data: the same by any backend and batch, from the data's own bytes, and what training moves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ml.backends import get_backend
from ml.dataset import Examples, Text
from ml.evaluation import ELEMENT_MACS, compute_evaluation, compute_logits, compute_scoring_macs, get_forward_ops
from ml.models import build_program
from ml.program import OpKind, Program
from ml.segment import run_steps
from ml.settlement import compute_next_checkpoint
from ml.spec import count_rows
from tests.support.models import TINY_SPECS, make_case

REFERENCE = get_backend("reference")


@pytest.mark.parametrize("name", TINY_SPECS)
def test_a_score_is_that_of_the_losses_and_hits_of_its_rows(name: str) -> None:
    case = make_case(name)
    data, checkpoint = case.dataset, case.runner.checkpoint
    if isinstance(data, Examples):
        inputs = data.heldout_x, data.heldout_labels
    else:
        context = 7
        count = (len(data.heldout) - 1) // context
        stream = data.heldout.astype(np.int32)
        inputs = stream[: count * context, None], stream[1 : count * context + 1, None]
    logits, loss = compute_logits(case.program, REFERENCE, checkpoint, data, inputs)
    score = compute_evaluation(case.program, REFERENCE, checkpoint, data)
    assert score.count == len(inputs[1])
    assert score.loss_f16 == loss.astype(np.int64).sum()
    assert score.correct == (logits.argmax(axis=1) == inputs[1][:, 0]).sum()


@pytest.mark.parametrize("name", TINY_SPECS)
def test_what_scoring_takes_is_counted_by_the_shapes_that_go_through(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(name)
    monkeypatch.setattr("ml.evaluation.EVALUATION_ROWS", 16)
    found = list[int]()

    def count(program: Program, *others: Any) -> Any:
        whole = build_program(
            replace(program.spec, batch=len(others[3][0]) // count_rows(replace(program.spec, batch=1)))
        )
        ops = get_forward_ops(whole)
        found.append(sum(matmul.macs for matmul in whole.matmuls if matmul.op in {op.index for op in ops}))
        tensors = [whole.tensors[output] for op in ops for output in op.outputs]
        found.append(ELEMENT_MACS * sum(tensor.rows * tensor.columns for tensor in tensors))
        return compute_logits(program, *others)

    monkeypatch.setattr("ml.evaluation.compute_logits", count)
    compute_evaluation(case.program, REFERENCE, case.runner.checkpoint, case.dataset)
    assert len(found) > 2
    assert compute_scoring_macs(case.program.spec, case.dataset) == sum(found)


@pytest.mark.parametrize("name", TINY_SPECS)
def test_the_step_itself_has_these_logits(name: str) -> None:
    """What a step computed for its batch is what an evaluation computes for the same rows."""
    case = make_case(name)
    seen: list[tuple[int, ...]] = []
    program = case.program

    def on_step(step: int, tensors: dict) -> None:  # type: ignore[type-arg]
        if step == 0:
            x, labels = (tensors[output] for output in program.ops[0].outputs)
            _, loss = compute_logits(program, REFERENCE, case.runner.checkpoint, case.dataset, (x, labels))
            assert loss.tobytes() == tensors[program.loss].tobytes()
            seen.append(loss.shape)

    run_steps(case.runner, on_step)
    assert seen == [(program.tensors[program.loss].rows, 1)]


def test_the_number_of_tokens_scored_is_bounded() -> None:
    case = make_case("decoder")
    assert isinstance(case.dataset, Text)
    score = compute_evaluation(case.program, REFERENCE, case.runner.checkpoint, case.dataset, tokens=50)
    assert score.count == 49


def test_an_evaluation_runs_no_backward_op() -> None:
    kinds = {op.kind for op in get_forward_ops(make_case("decoder-rotary").program)}
    assert kinds.isdisjoint({OpKind.ADAM, OpKind.NORMALISE_BACKWARD, OpKind.EMBEDDING_GRADIENT, OpKind.WINDOWS})
    assert {OpKind.EMBED, OpKind.CAUSAL_SOFTMAX, OpKind.SOFTMAX_XENT_GRADIENT} <= kinds


def test_training_lowers_the_held_out_loss() -> None:
    case = make_case("decoder")
    spec = replace(case.spec, segment_steps=40, warmup_steps=2, decay_steps=20, learning_rate=1 << 25)
    program = build_program(spec)
    before = compute_evaluation(program, REFERENCE, case.runner.checkpoint, case.dataset, 700)
    result = run_steps(replace(case.runner, program=program))
    after = compute_next_checkpoint(program, case.runner.checkpoint, [result.deltas])
    assert compute_evaluation(program, REFERENCE, after, case.dataset, 700).loss_f16 < before.loss_f16 * 3 // 4
