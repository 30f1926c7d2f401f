"""EZKL's half of the comparison of proofs: a graph becomes a circuit, keys are generated, it is proven and verified.

Nothing is fetched: the parameters that every key rests on are generated here, which is fit for measuring alone, for
whoever generates them can forge. Inputs and weights are private, outputs public. It knows nothing of ours.
Source: EZKL's own order of calls (settings, calibration, circuit, keys, witness, proof), with its default arguments.
Run as a module it measures one phase: `python -m benchmarks.lab.peers_ezkl CASE PHASE REPEATS FOLDER`.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import ezkl
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.lab.peers_case import Finding, PeerCase, answer, measure, measure_in_turn
from benchmarks.lab.records import LabError

OPSET, IR_VERSION = 13, 8
RATE = 0.125
"""Of the step; a constant of the circuit."""

Floats = npt.NDArray[np.float64]


def set_up(case: PeerCase, repeats: int, folder: Path) -> Finding:
    """Measure parameters (once), settings and circuit (once), and the generation of both keys."""
    inputs, _ = make_inputs(case)
    at = {name: str(folder / name) for name in ("graph", "data", "settings", "circuit", "srs", "vk", "pk")}
    onnx.save(make_graph(case), at["graph"])
    Path(at["data"]).write_text(json.dumps({"input_data": [part.ravel().tolist() for part in inputs.values()]}))
    arguments = ezkl.PyRunArgs()
    arguments.input_visibility = arguments.param_visibility = "private"
    arguments.output_visibility = "public"

    def prepare() -> None:
        ezkl.gen_settings(at["graph"], at["settings"], py_run_args=arguments)
        ezkl.calibrate_settings(at["data"], at["graph"], at["settings"], "resources")
        ezkl.compile_circuit(at["graph"], at["circuit"], at["settings"])

    samples = measure_in_turn({"circuit": prepare}, 1)
    settings = json.loads(Path(at["settings"]).read_text())
    chosen = settings["run_args"]
    samples |= measure_in_turn({"parameters": lambda: ezkl.gen_srs(at["srs"], chosen["logrows"])}, 1)
    keys = {"keys": lambda: ezkl.setup(at["circuit"], at["vk"], at["pk"], at["srs"])}
    samples |= measure_in_turn(keys, repeats)
    sizes = {name: Path(at[name]).stat().st_size for name in ("srs", "vk", "pk")}
    facts = {"logrows": chosen["logrows"], "rows": settings["num_rows"], "scale": chosen["input_scale"]}
    return Finding(samples, sizes, {name: float(value) for name, value in facts.items()})


def prove(case: PeerCase, repeats: int, folder: Path) -> Finding:
    """Measure witness and proof; a proof reads its key from the disk, as its only interface has it."""
    at = {name: str(folder / name) for name in ("data", "settings", "circuit", "srs", "pk", "witness", "proof")}
    work: dict[str, Callable[[], object]] = {
        "compute": lambda: ezkl.gen_witness(at["data"], at["circuit"], at["witness"]),
        "prove": lambda: ezkl.prove(at["witness"], at["circuit"], at["pk"], at["proof"], at["srs"]),
    }
    samples = measure_in_turn(work, repeats)
    scale = json.loads(Path(at["settings"]).read_text())["model_output_scales"][0]
    outputs = json.loads(Path(at["witness"]).read_text())["outputs"][0]
    found = np.array([ezkl.felt_to_float(value, scale) for value in outputs])
    expected = make_inputs(case)[1].ravel()
    size = len(bytes.fromhex(json.loads(Path(at["proof"]).read_text())["hex_proof"].removeprefix("0x")))
    facts = {"error": float(np.abs(found - expected).max()), "largest": float(np.abs(expected).max())}
    return Finding(samples, {"proof": size}, facts)


def verify(case: PeerCase, repeats: int, folder: Path) -> Finding:
    """Measure verification; raises LabError when a proof is refused, or one of another output is accepted."""
    if not is_accepted(folder, folder / "proof"):
        raise LabError(f"EZKL, {case.name}: found the proof refused, expected it accepted")
    samples = tuple(measure(lambda: is_accepted(folder, folder / "proof")) for _ in range(repeats))
    proof = json.loads((folder / "proof").read_text())
    public = proof["instances"][0]
    public[0], public[1] = public[1], public[0]
    (folder / "forged").write_text(json.dumps(proof))
    if is_accepted(folder, folder / "forged"):
        raise LabError(f"EZKL, {case.name}: found a proof of other outputs accepted, expected it refused")
    return Finding({"verify": samples})


def is_accepted(folder: Path, proof: Path) -> bool:
    """Say whether a proof is accepted under the keys in the folder."""
    settings, vk, srs = (str(folder / name) for name in ("settings", "vk", "srs"))
    try:
        return bool(ezkl.verify(str(proof), settings, vk, srs))
    except RuntimeError:
        return False


def make_inputs(case: PeerCase) -> tuple[dict[str, Floats], Floats]:
    """Return the private inputs by name (float64 of float32's values) and the output that they give in float64."""
    rng, width = np.random.default_rng(case.width), case.width
    x = rng.uniform(-1, 1, (case.batch, width)).astype(np.float32).astype(np.float64)
    w = make_weights(case)
    if not case.is_step:
        return {"x": x}, x @ w
    t = np.eye(width)[rng.integers(0, width, case.batch)]
    return {"x": x, "w": w, "t": t}, w - RATE * (x.T @ (x @ w - t))


def make_weights(case: PeerCase) -> Floats:
    """Return near-normal weights of variance 2 / inputs, (in, out) float64 of float32's values."""
    deviation = (2 / case.width) ** 0.5
    weights = np.random.default_rng(1).normal(0, deviation, (case.width, case.width))
    return weights.astype(np.float32).astype(np.float64)


def make_graph(case: PeerCase) -> onnx.ModelProto:
    """Return the graph: x w for a layer; w - RATE xᵀ (x w - t) for a step, of mean squares under plain descent."""
    square, node = [case.width, case.width], helper.make_node
    shapes = {name: list(part.shape) for name, part in make_inputs(case)[0].items()}
    product = node("MatMul", ["x", "w"], ["y"])
    if case.is_step:
        constants = [numpy_helper.from_array(np.array(RATE, np.float32), "rate")]
        nodes = [
            product,
            node("Sub", ["y", "t"], ["e"]),
            node("Transpose", ["x"], ["columns"], perm=[1, 0]),
            node("MatMul", ["columns", "e"], ["gradient"]),
            node("Mul", ["gradient", "rate"], ["change"]),
            node("Sub", ["w", "change"], ["after"]),
        ]
        output = _describe("after", square)
    else:
        constants = [numpy_helper.from_array(make_weights(case).astype(np.float32), "w")]
        nodes, output = [product], _describe("y", [case.batch, case.width])
    inputs = [_describe(name, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, case.name, inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _describe(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


if __name__ == "__main__":
    answer({"set-up": set_up, "prove": prove, "verify": verify}, sys.argv[1:])
