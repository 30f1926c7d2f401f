"""A forged contribution that looks right: an honest trace whose delta was replaced after the last step.

Every op but the delta's holds, and all roots are recomputed to fit, so that places drawn elsewhere open well. It serves
networks for tests: the forger's deposit burns and its work goes unpaid.
"""

from dataclasses import replace

import numpy as np

from chain.primitives import Hash
from chain.transaction import Sidecar
from ml.deltas import decode_delta, encode_delta
from ml.program import Program
from ml.tensor_tree import compute_tensor_root
from ml.trace import Trace, compute_delta_root, compute_trace_root
from node.miner.segment import TrainedSegment


def forge_delta(program: Program, segment: TrainedSegment) -> TrainedSegment:
    """Return the segment with the sign of its delta turned around, committed as if that were what training gave."""
    layers = decode_delta(program, segment.sidecar.output_roots, segment.sidecar.delta)
    arrays = [array for mantissas, exponents in layers for array in (np.negative(mantissas), exponents)]
    forged_roots = b"".join(compute_tensor_root(array) for array in arrays)
    output_roots = segment.sidecar.output_roots[: -len(forged_roots)] + forged_roots
    outputs = [output for op in program.delta_ops for output in op.outputs]
    delta = encode_delta(program, dict(zip(outputs, arrays, strict=True)))
    checkpoint_roots = tuple(compute_tensor_root(part) for part in segment.checkpoint.weights)
    trace_root: Hash = compute_trace_root(Trace(program, checkpoint_roots, output_roots))
    return replace(
        segment,
        sidecar=Sidecar(output_roots, delta),
        trace_root=trace_root,
        delta_root=compute_delta_root(program, output_roots),
    )
