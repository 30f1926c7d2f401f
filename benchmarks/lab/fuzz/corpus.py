"""Inputs that are kept: one file a decoder, one input a line in hex, so that a change of it can be read.

What is damaged is refused. It knows no decoder.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from benchmarks.lab.fuzz.judging import Verdict
from benchmarks.lab.records import LabError

SUFFIX = ".hex"


def read_corpus(folder: Path, name: str) -> tuple[bytes, ...]:
    """Return the inputs kept for a decoder; raises LabError where a line is no hex."""
    path = folder / f"{name}{SUFFIX}"
    if not path.exists():
        return ()
    try:
        return tuple(bytes.fromhex(line) for line in path.read_text("ascii").splitlines())
    except ValueError as error:
        raise LabError(f"{path}: found {error}, expected an input in hex on each line") from None


def write_corpus(folder: Path, name: str, inputs: Sequence[bytes]) -> None:
    """Keep inputs for a decoder, the shortest first."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = sorted({data.hex() for data in inputs}, key=lambda text: (len(text), text))
    (folder / f"{name}{SUFFIX}").write_text("".join(f"{line}\n" for line in lines), "ascii")


def write_finding(folder: Path, name: str, verdict: Verdict, data: bytes) -> Path:
    """Keep an input that ended as none may, in a file whose name says of which decoder; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}--{verdict.ending.value}-{sha256(data).hexdigest()[:12]}.bin"
    path.write_bytes(data)
    return path


def get_decoder_name(path: Path) -> str:
    """Return the name of the decoder that a finding's file is of."""
    return path.name.partition("--")[0]
