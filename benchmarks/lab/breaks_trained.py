"""Outliers of a trained model: channels of every matmul's input, what they cost in 7 bits, and the residual stream.

It reads the weights that a `plays` run of `mathesis lab quality --states` has kept, takes one step on the reference
backend with every tensor in sight, and compares products with float64, plain and after a Hadamard rotation.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.lab.breaks_operands import compute_product_snr_db, rotate
from benchmarks.lab.cases import CASES, load_case_dataset, make_spec
from benchmarks.lab.probe import Finding, format_db
from benchmarks.lab.records import LabError
from ml.arithmetic import I32
from ml.backends import get_backend
from ml.checkpoint import Checkpoint
from ml.models import build_program
from ml.program import Program
from ml.segment import Runner, StepTensors, as_i32, compute_initial_state, run_step
from ml.spec import Decoder

SEQUENCES = 4
LINEARS = (("qkv", "attention.y"), ("out", "heads"), ("up", "inner.y"), ("down", "a"))
"""Linear layers of a block, and their inputs."""


def probe_trained(weights: Path) -> Finding:
    """Measure every block's inputs; raises LabError when `weights` do not fit the plays case, DatasetError or "
    "OSError."""
    program, tensors, parameters = _compute_step(weights)
    names = {tensor.name: tensor.id for tensor in program.tensors}
    model = program.spec.model
    assert isinstance(model, Decoder)
    rows = []
    for layer in range(model.layers):
        for linear, source in LINEARS:
            x, w = as_i32(tensors[names[f"block{layer}.{source}"]]), parameters[f"block{layer}.{linear}"]
            channels = np.sqrt(np.square(x / 2.0**16).mean(axis=0))
            rows.append(
                (
                    f"block{layer}.{linear}",
                    f"{channels.max() / np.median(channels):.1f}",
                    format_db(compute_product_snr_db(x, w)),
                    # Four bits of a weight stay free for the growth of its row by the rotation.
                    format_db(compute_product_snr_db(rotate(_widen(x)), rotate(_widen(w >> 4)))),
                )
            )
    after = [as_i32(tensors[names[f"block{layer}.after"]]) for layer in range(model.layers)]
    tallest = ", ".join(f"{np.abs(part).max() / 2**16:.0f}" for part in after)
    return Finding(
        title="Outliers of a trained model",
        setting=f"`{weights.name}`: the decoder of the plays case after its run, {SEQUENCES} sequences. Inputs of its "
        f"linear "
        "layers: the tallest channel over the median one, by root mean square, and the product of 7-bit rows against "
        "that "
        f"of the same integers, plain and rotated. Tallest values of the residual stream after each block: {tallest}.",
        header=("layer", "tallest channel", "plain (format 2)", "rotated"),
        rows=tuple(rows),
        answer="Squared activations grow tall channels first, where a rotation would win most. The residual stream "
        "reaches "
        "values at which a clamp of 512 would begin to bite.",
    )


def _widen(x: I32) -> I32:
    """Return x with columns of zeros up to a power of four."""
    size = 1
    while size < x.shape[1]:
        size *= 4
    return np.pad(x, ((0, 0), (0, size - x.shape[1])))


def _compute_step(path: Path) -> tuple[Program, StepTensors, dict[str, I32]]:
    case = CASES["plays"]
    program = build_program(replace(make_spec(case, case.steps, case.rates_ppm[0], 1), batch=SEQUENCES))
    with np.load(path, allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    for part in program.parameters:
        array = found.get(part.name)
        if array is None or array.shape != (part.rows, part.columns) or array.dtype != np.int32:
            raise LabError(
                f"{path}: found no int32 array {part.name} of ({part.rows}, {part.columns}), expected one; "
                "make the file with `mathesis lab quality --case plays --states DIR`"
            )
    weights = tuple(found[part.name] for part in program.parameters)
    checkpoint = Checkpoint(weights, tuple(np.zeros_like(part) for part in weights))
    runner = Runner(program, get_backend("reference"), load_case_dataset(case), bytes(32), checkpoint)
    tensors = run_step(runner, 0, compute_initial_state(program, checkpoint))
    return program, tensors, {part.name: found[part.name] for part in program.parameters}
