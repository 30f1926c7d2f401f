"""Our half of the comparison proves and verifies for real; its page says what stood on either side."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from benchmarks.lab import peers_own
from benchmarks.lab.peers import get_peer_version, run_process
from benchmarks.lab.peers_case import (
    CASES,
    FINDING_FILE,
    PHASES,
    Finding,
    PeerCase,
    Plan,
    Times,
    answer,
    get_peak_bytes,
    read_finding,
)
from benchmarks.lab.peers_page import Comparison, add_samples, list_columns, render_page
from benchmarks.lab.records import LabError
from benchmarks.verifier_cases import PLACES
from chain.errors import InvalidProof
from ml.openings import OPENING_BYTES_MAX
from ml.trace import compute_output_roots_size
from ml.transcript import compute_transcript_size
from node.cli import main
from node.exit_codes import ExitCode

SMALL = replace(CASES["step"], name="small", width=16, batch=4)
OWN_PHASES = {"set-up": peers_own.set_up, "prove": peers_own.prove, "verify": peers_own.verify}


def measure_own(case: PeerCase, repeats: int, folder: Path) -> dict[str, Finding]:
    return {name: phase(case, repeats, folder) for name, phase in OWN_PHASES.items()}


def is_refused(check: peers_own.Check) -> bool:
    try:
        check()
    except InvalidProof:
        return True
    return False


def make_peer(prove_ms: float) -> dict[str, Finding]:
    """A finding of the other side with every figure its own, as only a rendered page can tell."""
    same: Callable[[float], tuple[Times, ...]] = lambda value: ((value, 2 * value),) * 3  # noqa: E731
    circuit = {"rows": 73_000.0, "logrows": 17.0, "scale": 13.0}
    keys = Finding(
        {"parameters": ((31_000.0, 1.0),), "keys": same(32_000.0)}, {"srs": 16, "vk": 723, "pk": 1_082_000_000}, circuit
    )
    made = Finding(
        {"compute": same(80.0), "prove": same(prove_ms)}, {"proof": 5_600}, {"error": 1.7e-4, "largest": 0.8}
    )
    return {"set-up": keys, "prove": made, "verify": Finding({"verify": same(130.0)})}


def test_our_half_is_proven_and_verified_from_what_the_prover_left(tmp_path: Path) -> None:
    found = measure_own(SMALL, 3, tmp_path)
    program = peers_own.make_runner(SMALL).program
    sizes = found["prove"].sizes_bytes
    assert sizes["roots"] == compute_output_roots_size(program)
    assert sizes["transcript"] == compute_transcript_size(program, 0)
    assert 0 < sizes["openings"] <= PLACES * OPENING_BYTES_MAX
    assert 0 < found["prove"].facts["chance"] < 1
    assert set(found["verify"].samples) == {"spot checks", "Freivalds", "re-execution"}
    assert all(len(times) == 3 for each in found.values() for times in each.samples.values())


def test_the_cases_are_as_large_as_they_say() -> None:
    for case in CASES.values():
        program = peers_own.make_runner(case).program
        assert [(matmul.M, matmul.N, matmul.K) for matmul in program.matmuls] == [
            (case.batch, case.width, case.width),
            (case.width, case.width, case.batch),
        ]


def test_each_verifier_refuses_what_it_alone_reads_changed(tmp_path: Path) -> None:
    peers_own.prove(SMALL, 1, tmp_path)
    proof = msgspec.msgpack.decode((tmp_path / peers_own.PROOF_FILE).read_bytes(), type=peers_own.Proof)
    runner, refused = peers_own.make_runner(SMALL), {}
    for name, changed in peers_own.list_changed(proof).items():
        refused[name] = {by for by, check in peers_own.make_checks(runner, changed).items() if is_refused(check)}
    assert refused["spot checks"] == {"spot checks"}
    assert refused["Freivalds"] == {"Freivalds"}
    assert refused["re-execution"] >= {"Freivalds", "re-execution"}


def test_a_proof_that_is_refused_ends_the_run(tmp_path: Path) -> None:
    peers_own.prove(SMALL, 1, tmp_path)
    path = tmp_path / peers_own.PROOF_FILE
    proof = msgspec.msgpack.decode(path.read_bytes(), type=peers_own.Proof)
    path.write_bytes(msgspec.msgpack.encode(peers_own.list_changed(proof)["Freivalds"]))
    with pytest.raises(InvalidProof):
        peers_own.verify(SMALL, 1, tmp_path)


def test_a_verifier_that_accepts_a_changed_proof_ends_the_run() -> None:
    with pytest.raises(LabError, match="found a changed proof accepted"):
        peers_own.expect_refusal("nobody", lambda: None)


def test_a_process_leaves_its_finding_and_its_peak_once(tmp_path: Path) -> None:
    held = bytearray(1 << 20)
    answer({"set-up": lambda case, repeats, folder: Finding({case.name: ((1.0, 2.0),) * repeats})}, [
        "layer", "set-up", "2", str(tmp_path)
    ])  # fmt: skip
    found = read_finding(tmp_path)
    assert found.samples == {"layer": ((1.0, 2.0), (1.0, 2.0))}
    assert len(held) < found.base_bytes <= found.peak_bytes <= get_peak_bytes()
    assert not (tmp_path / FINDING_FILE).exists()


def test_a_process_that_fails_is_told_by_its_last_words() -> None:
    with pytest.raises(LabError, match=r"found exit 3 .*, expected 0; it said: no memory"):
        run_process([sys.executable, "-c", "import sys; print('no memory', file=sys.stderr); sys.exit(3)"])


def test_a_page_of_both_sides_compares_medians(tmp_path: Path) -> None:
    own = measure_own(SMALL, 3, tmp_path)
    own["prove"].samples.update(commit=((1.0, 1.0),) * 3, open=((3.0, 7.0),) * 3, transcript=((0.5, 1.0),) * 3)
    page = render_page([Comparison(SMALL, own, make_peer(8_000.0))], Plan(3, 3), "a machine", "ezkl 23")
    assert "| prove: EZKL / ours, on the wall | 1 | 2,000 | 5,333 | 8,000 |" in page
    assert "| prove: EZKL / ours, of processors | 1 | 2,000 | 8,000 | 16,000 |" in page
    assert "| proving key, bytes | 1,082,000,000 | none | none | none |" in page
    assert "| common parameters, once for all circuits, ms | 31,000 | none | none | none |" in page
    assert "73,000 rows of 2^17" in page
    assert "not installed" not in page


def test_samples_are_added_in_the_order_taken() -> None:
    assert add_samples([((1.0, 10.0), (2.0, 20.0)), ((3.0, 30.0), (4.0, 40.0))]) == ((4.0, 40.0), (6.0, 60.0))


def test_a_proof_is_what_its_verifier_needs(tmp_path: Path) -> None:
    own = measure_own(SMALL, 1, tmp_path)
    sizes = own["prove"].sizes_bytes
    columns = {column.name: column.proof_bytes for column in list_columns(Comparison(SMALL, own, None))}
    assert columns == {
        "spot checks": sizes["roots"] + sizes["openings"],
        "Freivalds": sizes["roots"] + sizes["transcript"],
        "re-execution": sizes["roots"],
    }


@pytest.mark.slow
def test_without_ezkl_the_command_measures_our_half(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ezkl", None)  # what an interpreter without it finds
    assert get_peer_version() is None
    assert main(["lab", "peers", "--case", "layer", "--repeats", "3", "--out", str(tmp_path)]) == ExitCode.OK
    said = capsys.readouterr()
    assert "pip install 'mathesis[peers]'" in said.out
    assert "|  | spot checks | Freivalds | re-execution |" in said.out
    assert "EZKL / ours" not in said.out
    assert [line for line in said.err.splitlines() if line.startswith("layer:")] == [
        f"layer: {phase}, own" for phase in PHASES
    ]
    assert not list(tmp_path.iterdir()), "one case of all is no page to keep"


@pytest.mark.slow
def test_ezkl_proves_the_same_layer_and_refuses_other_outputs(tmp_path: Path) -> None:
    pytest.importorskip("ezkl")
    peers_ezkl = pytest.importorskip("benchmarks.lab.peers_ezkl")
    case = replace(CASES["layer"], name="small", width=4)
    assert peers_ezkl.set_up(case, 1, tmp_path).sizes_bytes["pk"] > 1 << 20
    assert peers_ezkl.prove(case, 1, tmp_path).facts["error"] < 0.01
    assert len(peers_ezkl.verify(case, 2, tmp_path).samples["verify"]) == 2


@pytest.mark.parametrize(
    "arguments", [["--case", "matmul"], ["--repeats", "0"], ["--repeats", "many"], ["--proofs", "0"]]
)
def test_wrong_arguments_are_refused(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "peers", *arguments, "--out", str(tmp_path)]) == ExitCode.USAGE
    assert arguments[1] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
