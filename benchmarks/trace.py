"""`python -m benchmarks.trace`: what committing to a training step's tensors costs, beside the step itself.

Each op is run and each of its outputs hashed right after, on one thread, in turns of one run; processor time, so that a
busy machine lengthens both sides alike. Wide models are measured on one decoder layer with embedding and head. Where a
step's tensors fit into 3 GiB its commitment is one call over all of them after the step, as a miner makes it, else the
sum over tensors; the budget is by tensor. The allocator keeps what it was given: else steps are charged for new pages
of memory and look up to twice as long. Writes benchmarks/results/trace.md.
"""

import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from blake3 import blake3

from benchmarks.lab.tables import describe_run, format_table
from chain.hashing import tagged_hash
from chain.primitives import Hash
from ml.backends import get_backend
from ml.backends.cpu.blake3 import KEYED, U32Array, get_key_words, hash_chunks
from ml.backends.cpu.emit import LANES
from ml.backends.cpu.kernel import kernel
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.backends.cpu.vector import compress
from ml.checkpoint import compute_initial_checkpoint
from ml.dataset import Dataset, Text, load_digits
from ml.models import build_program
from ml.program import OpKind, Program, TensorId
from ml.proving import Snapshots, prove_segment
from ml.segment import Runner, StepTensors, compute_initial_state, run_op, run_steps
from ml.spec import DIGITS, Decoder, Positions, Spec
from ml.trace import Trace, compute_output_roots_size, compute_step_root, compute_step_roots

RESULTS = Path(__file__).parent / "results" / "trace.md"
TOGETHER_BYTES_MAX = 3 << 30
"""Larger steps are not held whole: their tensors are freed after their last use, and hashed one by one alone."""
SHARE_MIN = 0.005
"""Tensors with a smaller share of the commitment are listed as one line."""
MEMORY = {
    "MALLOC_TOP_PAD_": f"{256 << 20}",
    "MALLOC_MMAP_THRESHOLD_": f"{16 << 30}",
    "MALLOC_TRIM_THRESHOLD_": f"{32 << 30}",
}
"""What tells the C library's allocator to hand no memory back; it is read when a process starts."""
DEPENDENT = (
    *(OpKind.SPLIT_HEADS, OpKind.MERGE_HEADS, OpKind.ROTATE, OpKind.RELU, OpKind.RELU_SQUARED),
    *(OpKind.NORMALISE, OpKind.CAUSAL_SOFTMAX, OpKind.CAUSAL_SOFTMAX_BACKWARD),
)
T = TypeVar("T")
NOTE = f"""Medians, and the least commitment over the least step, which other work on the machine disturbs least.
The last column is the ratio without the outputs of ops that move elements or compute a row from the same row of their
inputs ({", ".join(kind.name for kind in DEPENDENT)}):
what it would be if openings read those through their inputs, which is not built."""
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A step to measure."""

    name: str
    spec: Spec
    repeats: int
    target: str = "reported"


@dataclass(slots=True)
class Samples:
    """Microseconds of processor time, one a repeat."""

    ops: list[float] = field(default_factory=list)
    hashes: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    records: list[float] = field(default_factory=list)
    tensors: dict[TensorId, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def commitments(self) -> list[float]:
        """Return what committing took: all tensors in one call where they were held, and the step's records."""
        return [roots + records for roots, records in zip(self.together or self.hashes, self.records, strict=True)]

    @property
    def ratios(self) -> list[float]:
        """Return commitment over step, a repeat each."""
        return sorted(spent / op for spent, op in zip(self.commitments, self.ops, strict=True))


def make_layer(width: int, batch: int, context: int = 256) -> Spec:
    """Return one decoder layer of `width` over bytes, heads of 64 columns, four times the width inside."""
    model = Decoder(256, context, width, 1, width // 64, 4 * width, int(Positions.ROTARY), 0)
    return replace(DIGITS, model=model, batch=batch, segment_steps=2, warmup_steps=0, decay_steps=0, heldout=0)


PLAYS = replace(make_layer(192, 16, 128), model=Decoder(256, 128, 192, 4, 6, 768, int(Positions.LEARNED), 0))
CASES = (
    Case("digits, 64-128-128-10, batch 64", DIGITS, 51),
    Case("d = 192: the whole decoder of plays, 4 layers, 2,048 tokens", PLAYS, 15),
    Case("d = 1024: one layer, context 256, 1,024 tokens", make_layer(1024, 4), 9),
    Case("d = 1024: one layer, context 256, 4,096 tokens", make_layer(1024, 16), 7, "18 %"),
    Case("d = 1024: one layer, context 256, 16,384 tokens", make_layer(1024, 64), 3),
    Case("d = 4096: one layer, context 256, 4,096 tokens", make_layer(4096, 16), 3, "6 %"),
)


def make_dataset(spec: Spec) -> Dataset:
    """Return the digits, or bytes to read where a decoder only has to be busy."""
    if spec == DIGITS:
        return load_digits(DIGITS.heldout)
    stream = np.random.default_rng(0).integers(0, 256, 1 << 18).astype(np.uint8)
    return Text(stream, stream[:4096], Hash(bytes(32)))


def measure(case: Case) -> tuple[Program, Samples]:
    """Return the program of a case and what its parts took."""
    program, samples = build_program(case.spec), Samples()
    checkpoint = compute_initial_checkpoint(program)
    runner = Runner(program, get_backend("cpu"), make_dataset(case.spec), bytes(32), checkpoint)
    state = dict(zip(program.state_inputs, compute_initial_state(program, checkpoint), strict=True))
    _measure_step(runner, state, Samples())
    for _ in range(case.repeats):
        _measure_step(runner, state, samples)
    return program, samples


def _measure_step(runner: Runner, state: StepTensors, samples: Samples) -> None:
    program, tensors, spent = runner.program, dict(state), [0.0, 0.0]
    is_held = sum(program.tensors[output].size_bytes for output in program.get_step_outputs(0)) < TOGETHER_BYTES_MAX
    uses = Counter(tensor for op in program.ops for tensor in op.inputs)
    for op in program.ops:
        op_us, outputs = clock_us(partial(run_op, runner, 0, op, [tensors[tensor] for tensor in op.inputs]))
        spent[0] += op_us
        tensors.update(zip(op.outputs, outputs, strict=True))
        for tensor, array in zip(op.outputs, outputs, strict=True):
            hash_us, _ = clock_us(partial(compute_tensor_roots, [array]))
            samples.tensors[tensor].append(hash_us)
            spent[1] += hash_us
        del outputs
        uses.subtract(op.inputs)
        for tensor in () if is_held else [*op.inputs, *op.outputs]:
            if uses[tensor] == 0:
                tensors.pop(tensor, None)
    if is_held:
        hash_all = partial(compute_step_roots, program, 0, tensors, compute_tensor_roots)
        samples.together.append(clock_us(hash_all)[0])
    samples.ops.append(spent[0])
    samples.hashes.append(spent[1])
    samples.records.append(clock_us(partial(compute_step_root, make_trace(program), 0))[0])


def make_trace(program: Program) -> Trace:
    """Return a trace of which only the size is real: records cost the same whatever the roots."""
    roots = tuple(Hash(bytes(32)) for _ in program.parameters)
    return Trace(program, roots, bytes(compute_output_roots_size(program)))


def clock_us(function: Callable[[], T]) -> tuple[float, T]:
    """Return the processor time that one call took on this thread, and its result."""
    start_ns = time.thread_time_ns()
    result = function()
    return (time.thread_time_ns() - start_ns) / 1000, result


def format_case(case: Case, program: Program, samples: Samples) -> Iterator[str]:
    """Yield the lines of a case: the whole, then its budget by tensor."""
    step_us, spent_us = statistics.median(samples.ops), statistics.median(samples.commitments)
    medians = {tensor: statistics.median(values) for tensor, values in samples.tensors.items()}
    ranked, whole = sorted(medians, key=lambda tensor: -medians[tensor]), sum(medians.values())
    listed = [tensor for tensor in ranked if medians[tensor] >= SHARE_MIN * whole]
    sizes = {tensor: program.tensors[tensor].size_bytes for tensor in ranked}
    yield f"## {case.name}\n"
    yield (
        f"A step takes {step_us / 1000:.2f} ms, its commitment {spent_us / 1000:.2f} ms: {len(ranked)} tensors, "
        f"{sum(sizes.values()):,} bytes, {'all in one call' if samples.together else 'one call each'}, and "
        f"{statistics.median(samples.records):.0f} µs for records and state root. Hashed one by one, each right after "
        f"its op, as in the table, they take {statistics.median(samples.hashes) / 1000:.2f} ms.\n"
    )
    rows = [_format_row(program, tensor, medians[tensor], whole) for tensor in listed]
    rest = [tensor for tensor in ranked if tensor not in listed]
    rest_us = sum(medians[tensor] for tensor in rest)
    rest_bytes = f"{sum(sizes[tensor] for tensor in rest):,}"
    rows.append((f"{len(rest)} more", "", "", rest_bytes, "1 each", f"{rest_us:.0f}", f"{100 * rest_us / whole:.1f} %"))
    rows.append(("states before, weights, moments", "", "", "", "0", "0", "0 %"))
    yield format_table(("tensor", "dtype", "shape", "bytes", "times hashed", "µs", "share"), rows)


def _format_row(program: Program, tensor: TensorId, hash_us: float, whole_us: float) -> Row:
    entry, times = program.tensors[tensor], program.get_step_outputs(0).count(tensor)
    shape = f"{entry.rows} x {entry.columns}"
    cost = f"{hash_us:.0f}", f"{100 * hash_us / whole_us:.1f} %"
    return entry.name, entry.dtype.name.lower(), shape, f"{entry.size_bytes:,}", f"{times}", *cost


def summarise(case: Case, program: Program, samples: Samples) -> Row:
    """Return a case's row of the first table."""
    medians = {tensor: statistics.median(values) for tensor, values in samples.tensors.items()}
    outputs = [output for op in program.ops if op.kind in DEPENDENT for output in op.outputs]
    dependent = sum(medians[output] for output in outputs) / sum(medians.values())
    size = sum(program.tensors[output].size_bytes for output in program.get_step_outputs(0))
    ratios, rate = samples.ratios, size / statistics.median(samples.commitments) / 1000
    middle = statistics.median(ratios)
    spread = f"{100 * ratios[0]:.1f} to {100 * ratios[-1]:.1f}"
    least = f"{100 * min(samples.commitments) / min(samples.ops):.1f} %"
    times = [f"{statistics.median(part) / 1000:.2f}" for part in (samples.ops, samples.commitments)]
    without = f"{100 * middle * (1 - dependent):.1f} %"
    found = f"{100 * middle:.1f} %", spread, least, case.target, f"{rate:.1f}", without
    return case.name, f"{len(samples.ops)}", *times, *found


@kernel
def _compress_blocks(state_u32: U32Array, message_u32: U32Array, blocks: int) -> None:
    for _ in range(blocks):
        compress(state_u32, message_u32)


def measure_rates() -> Iterator[Row]:
    """Yield what is hashed, and its rate in GB/s: medians of 31 calls, over data that a cache holds."""
    data_u8 = np.random.default_rng(0).integers(0, 256, 1 << 20).astype(np.uint8)
    data, key_u32 = data_u8.tobytes(), get_key_words(bytes(32))
    state_u32, message_u32 = np.zeros(16 * LANES, np.uint32), np.zeros(16 * LANES, np.uint32)
    yield "compression alone", _rate(partial(_compress_blocks, state_u32, message_u32, 1 << 10), 1 << 20)
    for size in (4, 64, 76, 256, 1024):
        starts_i64 = np.arange((1 << 20) // size) * size
        out_u8 = np.empty(32 * len(starts_i64), np.uint8)
        chunks = partial(hash_chunks, key_u32, KEYED, data_u8, starts_i64, size, out_u8)
        yield f"kernel, inputs of {size} bytes", _rate(chunks, len(starts_i64) * size)
    for size in (1 << 10, 1 << 16):
        parts = [data[start : start + size] for start in range(0, len(data), size)]
        package = partial(_hash_by_package, parts)
        yield f"package `blake3`, inputs of {size:,} bytes", _rate(package, len(data))
    for dtype in (np.int8, np.int32, np.int64):
        for rows, columns in ((64, 128), (1024, 1024), (4096, 4096)):
            array = np.ones((rows, columns), dtype)
            yield (
                f"root of {rows} x {columns} {array.dtype}",
                _rate(partial(compute_tensor_roots, [array]), array.nbytes),
            )


def _hash_by_package(parts: Sequence[bytes]) -> None:
    for part in parts:
        blake3(part, max_threads=1).digest()


def _rate(function: Callable[[], object], size_bytes: int) -> str:
    function()
    return f"{size_bytes / statistics.median(clock_us(function)[0] for _ in range(31)) / 1000:.2f}"


def measure_proofs() -> Iterator[Row]:
    """Yield the milliseconds to open 8 places of a segment of the digits, by how many states the prover kept."""
    program = build_program(DIGITS)
    runner = Runner(program, get_backend("cpu"), make_dataset(DIGITS), bytes(32), compute_initial_checkpoint(program))
    for interval in (program.steps, 16, 4, 1):
        snapshots = Snapshots(program, interval)
        run_steps(runner, snapshots.on_step)
        prove = partial(prove_segment, runner, tagged_hash("benchmark", b"trace"), 8, snapshots.states)
        samples = sorted(clock_us(prove)[0] for _ in range(9))
        yield (
            f"{interval}",
            f"{len(snapshots.states)}",
            f"{samples[4] / 1000:.1f}",
            f"{(samples[6] - samples[2]) / 1000:.1f}",
        )


def main() -> None:
    """Print the tables and write them beside this module."""
    if not MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.trace"], {**os.environ, **MEMORY})
    measured = [(case, *measure(case)) for case in CASES]
    summary = (
        "step",
        "repeats",
        "step, ms",
        "commitment, ms",
        "ratio",
        "least to most, %",
        "target",
        "GB/s",
        "see below",
    )
    lines = [
        "# Committing to a training step\n",
        f"`python -m benchmarks.trace` on {describe_run()}\n",
        f"{__doc__.split(chr(10) * 2)[1]}",
        format_table(summary, [summarise(*each) for each in measured]),
        f"{NOTE}\n",
        format_table(("hashed", "GB/s"), list(measure_rates())),
        "Opening 8 places of a segment of 64 steps:\n",
        format_table(("state kept every", "states", "ms", "quartile distance"), list(measure_proofs())),
        *(line for each in measured for line in format_case(*each)),
    ]
    text = "\n".join(lines)
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
