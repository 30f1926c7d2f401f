"""A transcript is state and products to the byte: its size is the program's, and its values are bounded before use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import InvalidProof
from ml.arithmetic import INT32_MAX
from ml.backends.batched_checks import VARIANCE_MAX
from ml.transcript import (
    compute_transcript_size,
    decode_transcript,
    get_product_shape,
    list_inputs,
    make_transcript,
)
from tests.support.models import TINY_SPECS
from tests.support.traced import CPU, make_segment

NAMES = tuple(TINY_SPECS)


@pytest.mark.parametrize("name", NAMES)
def test_parts_come_back_as_they_were_served(name: str) -> None:
    segment = make_segment(name)
    program = segment.context.program
    for step, tensors in enumerate(segment.steps):
        data = make_transcript(program, CPU, step, tensors)
        assert len(data) == compute_transcript_size(program, step)
        parts = decode_transcript(program, step, data)
        assert list(parts.inputs) == [tensor.id for tensor in list_inputs(program, step)]
        for tensor in list_inputs(program, step):
            assert np.array_equal(parts.inputs[tensor.id], tensors[tensor.id])
            assert not parts.inputs[tensor.id].flags.writeable
        for matmul in program.matmuls:
            assert parts.products[matmul.op].shape == get_product_shape(matmul)
            a, b = (np.split(tensors[operand].astype(np.int32), matmul.groups) for operand in (matmul.a, matmul.b))
            expected = np.concatenate([left @ right.T for left, right in zip(a, b, strict=True)])
            assert np.array_equal(parts.products[matmul.op], expected)


def test_the_last_step_alone_serves_the_checkpoint() -> None:
    program = make_segment("mlp").context.program
    weights = sum(parameter.count for parameter in program.parameters)
    assert compute_transcript_size(program, 1) - compute_transcript_size(program, 0) == 4 * weights


@given(st.sampled_from(NAMES), st.integers(-300, 300).filter(bool), st.integers(0, 1))
def test_another_size_is_refused_before_anything_is_read(name: str, change: int, step: int) -> None:
    program = make_segment(name).context.program
    size = compute_transcript_size(program, step)
    with pytest.raises(InvalidProof, match=rf"^transcript-size: found {size + change} bytes, expected {size}"):
        decode_transcript(program, step, bytes(size + change))


@pytest.mark.parametrize("step", [-1, 2, 2**32])
def test_a_step_that_is_none_is_refused(step: int) -> None:
    with pytest.raises(InvalidProof, match=r"^transcript-step"):
        decode_transcript(make_segment("mlp").context.program, step, b"")


@pytest.mark.parametrize(("kind", "value"), [(0, -INT32_MAX - 1), (1, -INT32_MAX - 1), (2, -1), (2, VARIANCE_MAX)])
def test_a_state_that_no_optimizer_leaves_is_refused(kind: int, value: int) -> None:
    program = make_segment("mlp").context.program
    count = len(program.parameters)
    tensors = dict(make_segment("mlp").steps[0])
    forged = program.state_inputs[kind * count]
    tensors[forged] = tensors[forged].copy()
    tensors[forged][0, 0] = value
    with pytest.raises(InvalidProof, match=r"^transcript-state"):
        decode_transcript(program, 0, make_transcript(program, CPU, 0, tensors))
