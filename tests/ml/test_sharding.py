"""Steps of several shards are those of one process, tensor by tensor, however the batch is cut.

The authority is `ml.training.run_training_step` (and `ml.segment.run_step` where every tensor is in sight) on the
reference backend; shards meet in threads.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.arithmetic import INT32_MAX, IntArray
from ml.checkpoint import compute_initial_checkpoint
from ml.models import build_program
from ml.program import Op, OpKind, TensorId
from ml.segment import Runner, compute_initial_state, run_op, run_step
from ml.sharded_step import ShardRunner, make_shard_runner, run_sharded_step
from ml.sharding import (
    Exchange,
    OpClass,
    Placement,
    Shard,
    ShardingError,
    cut_batch,
    get_op_class,
    get_op_classes,
    get_placements,
)
from ml.spec import Decoder
from ml.training import run_training_step
from tests.support.exchange import run_threads
from tests.support.models import TINY_SPECS, make_case

State = tuple[IntArray, ...]
SIZES = (1, 2, 3, 5)
STEPS = 11


def make_runner(name: str, batch: int, steps: int = STEPS) -> Runner:
    runner = make_case(name).runner
    spec = replace(runner.program.spec, batch=batch, segment_steps=steps)
    return replace(runner, program=build_program(spec))


def get_start(runner: Runner) -> State:
    return compute_initial_state(runner.program, runner.checkpoint)


def get_exponents_ops(runner: Runner) -> list[Op]:
    classes = get_op_classes(runner.program)
    return [op for op, found in zip(runner.program.ops, classes, strict=True) if found is OpClass.EXPONENTS]


def encode_state(state: Sequence[IntArray]) -> list[bytes]:
    return [part.tobytes() for part in state]


def run_alone(runner: Runner, steps: int) -> tuple[list[bytes], list[int]]:
    state, losses = get_start(runner), []
    for step in range(steps):
        result = run_training_step(runner, step, state)
        state = result.state
        losses.append(result.loss_f16)
    return encode_state(state), losses


def run_shards(runner: Runner, shards: Sequence[Shard], steps: int) -> Sequence[tuple[list[bytes], list[int]]]:
    def work(exchange: Exchange) -> tuple[list[bytes], list[int]]:
        state, losses = get_start(runner), []
        for step in range(steps):
            result = run_sharded_step(ShardRunner(runner, shards[exchange.rank], exchange), step, state)
            state = result.state
            losses.append(result.loss_f16)
        return encode_state(state), losses

    return run_threads(len(shards), work)


@pytest.mark.parametrize("name", sorted(TINY_SPECS))
def test_shards_give_the_state_and_loss_of_one_process(name: str) -> None:
    runner = make_runner(name, batch=5)
    alone = run_alone(runner, STEPS)
    for size in SIZES:
        assert all(found == alone for found in run_shards(runner, cut_batch(5, size), STEPS)), size


@pytest.mark.parametrize("name", sorted(TINY_SPECS))
def test_each_tensor_is_that_of_one_process(name: str) -> None:
    """Names the first op that differs, which the state alone would not."""
    runner = make_runner(name, batch=4)
    program = runner.program
    placements = get_placements(program)
    expected = run_step(runner, 0, get_start(runner))

    def work(exchange: Exchange) -> dict[TensorId, IntArray]:
        found: dict[TensorId, IntArray] = {}
        runner_here = make_shard_runner(runner, exchange)
        run_sharded_step(
            runner_here, 0, get_start(runner), lambda op, outputs: found.update(zip(op.outputs, outputs, strict=True))
        )
        return found

    found = run_threads(3, work)
    for op in program.ops:
        for tensor in op.outputs:
            parts, label = (
                [part[tensor] for part in found],
                f"op {op.index} {op.kind.name} {program.tensors[tensor].name}",
            )
            if placements[tensor] is Placement.WHOLE:
                assert all(part.tobytes() == expected[tensor].tobytes() for part in parts), label
            else:
                joined = np.concatenate(parts, axis=0 if placements[tensor] is Placement.ROWS else 1)
                assert joined.dtype == expected[tensor].dtype
                assert np.array_equal(joined, expected[tensor]), label


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_cut_gives_the_same_bytes(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(TINY_SPECS)))
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    firsts = [sum(counts[:place]) for place in range(len(counts))]
    shards = [Shard(first, count) for first, count in zip(firsts, counts, strict=True)]
    runner = make_runner(name, batch=sum(counts), steps=2)
    alone = run_alone(runner, 2)
    assert all(found == alone for found in run_shards(runner, shards, 2))


@pytest.mark.parametrize(("name", "batch"), [("mlp", 1500), ("decoder-tied", 200)])
def test_weight_gradients_are_scaled_by_the_rows_of_the_whole_batch(name: str, batch: int) -> None:
    """A shard of these batches has fewer rows than 1,024, the batch more: on its own it would shift by other bits."""
    runner = make_runner(name, batch, steps=2)
    shards = cut_batch(batch, 3)
    own = build_program(replace(runner.program.spec, batch=shards[0].count))
    classes = get_op_classes(runner.program)
    shifted = {
        found for op, part, found in zip(runner.program.ops, own.ops, classes, strict=True) if op.shift != part.shift
    }
    assert OpClass.PRODUCT in shifted <= {OpClass.PRODUCT, OpClass.SUMS}
    alone = run_alone(runner, 2)
    assert all(found == alone for found in run_shards(runner, shards, 2))


@pytest.mark.parametrize("name", ["decoder", "decoder-rotary"])
def test_sums_do_not_saturate_before_the_last(name: str) -> None:
    """An embedding of zeros under a head at its bounds: gradients of the embedding saturate in a single row."""
    runner = make_runner(name, batch=9, steps=2)
    start, generator = list(get_start(runner)), np.random.default_rng(1)
    bounds = np.array([-INT32_MAX, INT32_MAX], np.int32)
    for place, part in enumerate(runner.program.parameters):
        if part.name in ("embedding", "positions"):
            start[place] = np.zeros_like(start[place])
        if part.name == "head":
            start[place] = generator.choice(bounds, start[place].shape)
    tensors = run_step(runner, 0, start)
    op = next(op for op in runner.program.ops if op.kind is OpKind.EMBEDDING_GRADIENT)
    sums = run_op(runner, 0, replace(op, shift=0), [tensors[tensor] for tensor in op.inputs])[0]
    assert np.abs(sums.astype(np.int64)).max() == INT32_MAX > np.abs(tensors[op.outputs[0]]).max()
    alone = encode_state(run_training_step(runner, 0, start).state)

    def work(exchange: Exchange) -> list[bytes]:
        return encode_state(run_sharded_step(make_shard_runner(runner, exchange), 0, start).state)

    assert all(found == alone for found in run_threads(3, work))


@pytest.mark.parametrize("name", sorted(TINY_SPECS))
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_each_op_falls_in_one_class(name: str, batch: int) -> None:
    program = make_runner(name, batch).program
    classes = get_op_classes(program)
    by_class = {each: [op for op, found in zip(program.ops, classes, strict=True) if found is each] for each in OpClass}
    products = [op.outputs[0] for op in by_class[OpClass.PRODUCT]]
    names = {program.tensors[tensor].name for tensor in products}
    stacked = {part.name for part in program.parameters} - {"embedding", "positions"}
    tied = {"head"} if name.endswith("tied") else set()
    assert names == {f"{part}.g" for part in stacked | tied}
    assert {op.kind for op in by_class[OpClass.SUMS]} <= {OpKind.EMBEDDING_GRADIENT, OpKind.POSITION_GRADIENT}
    # Both operands of each such product have columns that run through the batch.
    assert len(by_class[OpClass.EXPONENTS]) == 2 * len(products)
    assert {op.kind for op in by_class[OpClass.DRAW]} <= {OpKind.BATCH, OpKind.WINDOWS}
    assert len(by_class[OpClass.DRAW]) == 1
    assert sum(op.kind is OpKind.ADAM for op in by_class[OpClass.WHOLE]) == len(program.parameters)


def test_an_op_of_no_class_is_refused() -> None:
    program = make_runner("mlp", 4).program
    op = next(op for op, found in zip(program.ops, get_op_classes(program), strict=True) if found is OpClass.PRODUCT)
    with pytest.raises(AssertionError, match="falls in"):
        get_op_class(program, replace(op, inputs=(*op.inputs[:2], *program.ops[1].outputs)))
    with pytest.raises(AssertionError, match="falls in"):
        get_op_class(program, replace(op, inputs=(), outputs=op.outputs))


def test_a_shard_holds_less_than_the_batch() -> None:
    runner = make_runner("decoder", batch=30, steps=2)
    alone = run_training_step(runner, 0, get_start(runner)).bytes_held_max

    def work(exchange: Exchange) -> int:
        return run_sharded_step(make_shard_runner(runner, exchange), 0, get_start(runner)).bytes_held_max

    assert all(2 * held < alone for held in run_threads(3, work))
    # What waits for an exchange is one input of a linear layer at most, however many layers there are.
    spec, model = runner.program.spec, runner.program.spec.model
    assert isinstance(model, Decoder)
    runner = replace(runner, program=build_program(replace(spec, model=replace(model, layers=6))))
    runner = replace(runner, checkpoint=compute_initial_checkpoint(runner.program))
    alone = run_training_step(runner, 0, get_start(runner)).bytes_held_max
    waiting = max(runner.program.tensors[op.inputs[0]].size_bytes for op in get_exponents_ops(runner))
    assert run_threads(1, work)[0] <= alone + waiting


@given(st.integers(1, 10_000), st.integers(1, 64))
def test_a_batch_is_cut_whole_and_even(batch: int, size: int) -> None:
    if size > batch:
        with pytest.raises(ShardingError, match=f"found {size} processes for a batch of {batch}"):
            cut_batch(batch, size)
        return
    shards = cut_batch(batch, size)
    assert [shard.first for shard in shards] == [sum(part.count for part in shards[:i]) for i in range(size)]
    assert sum(shard.count for shard in shards) == batch
    counts = [shard.count for shard in shards]
    assert min(counts) >= 1 >= max(counts) - min(counts)


def test_uneven_cuts_and_no_process() -> None:
    assert [shard.count for shard in cut_batch(16, 3)] == [6, 5, 5]
    with pytest.raises(ShardingError, match="found 0 processes"):
        cut_batch(16, 0)
