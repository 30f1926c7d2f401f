"""The checkpoint file: the full state of a training run in safetensors, with a digest over every byte.

Weights are int32 F24, first moments int32 F20, second moments int64 F32, by parameter. Metadata is one canonical JSON
text, so that the same state is the same file. It knows no export and no training; what may stand in a header is
`node.models.state_header`'s.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from blake3 import blake3

from ml.arithmetic import INT32_MAX, WEIGHT_GRADIENT_MAX, IntArray
from ml.checkpoint import Checkpoint
from ml.segment import as_i32
from ml.spec import Spec, compute_spec_hash
from node.models.errors import ModelError
from node.models.files import write_whole
from node.models.specs import make_form
from node.models.state_header import (
    EXPONENTS,
    FILE_FORMAT,
    FILE_VERSION,
    HEADER_BYTES_MAX,
    PARTS,
    Header,
    Metadata,
    get_tensor_names,
    parse_header,
)

SUFFIX = ".safetensors"
_NO_DIGEST = b"0" * 64
_DIGEST_MARK = rb"\"digest\":\""


@dataclass(frozen=True, slots=True)
class ModelState:
    """What a run has reached: enough to go on bit by bit, or, without moments, to score, sample and share."""

    spec: Spec
    data_root: bytes
    seed: bytes
    step: int
    """Steps done."""
    weights: tuple[IntArray, ...]
    moments: tuple[IntArray, ...]
    """First moments, then second, by parameter; empty when they were left out."""
    start: bytes = b""
    """Root of the checkpoint that the first step went on from; empty for the spec's first weights."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Return the weights with no outer momentum."""
        return Checkpoint(tuple(map(as_i32, self.weights)), tuple(np.zeros_like(as_i32(part)) for part in self.weights))


def encode_state(state: ModelState) -> bytes:
    """Return the one file of a state."""
    from safetensors.numpy import save  # noqa: PLC0415 - only those who have a checkpoint need it

    parts = PARTS if state.moments else PARTS[:1]
    metadata = Metadata(
        data_root=state.data_root.hex(),
        digest=_NO_DIGEST.decode(),
        exponents={part: EXPONENTS[part] for part in parts},
        format=FILE_FORMAT,
        seed=state.seed.hex(),
        spec=make_form(state.spec),
        spec_hash=compute_spec_hash(state.spec).hex(),
        start=state.start.hex(),
        step=state.step,
        version=FILE_VERSION,
    )
    text = msgspec.json.encode(metadata, order="deterministic").decode()
    arrays = [np.ascontiguousarray(array) for array in (*state.weights, *state.moments)]
    data = save(dict(zip(get_tensor_names(state.spec, parts), arrays, strict=True)), {"mathesis": text})
    place = _find_digest(data)
    digest = blake3(data).hexdigest().encode()
    return data[:place] + digest + data[place + len(digest) :]


def decode_state(data: bytes, name: str) -> ModelState:
    """Return the state that the bytes of the file `name` hold; raises ModelError."""
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load  # noqa: PLC0415

    header = parse_header(data[: 8 + HEADER_BYTES_MAX], len(data), name)
    metadata, spec = header.metadata, header.spec
    digest = _compute_digest(data)
    if digest != metadata.digest:
        raise ModelError(
            "wrong-digest",
            f"{name}: found content of digest {digest[:16]}, expected {metadata.digest[:16]};"
            " the file was altered or damaged: use another one",
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelError("bad-file", f"{name}: {error}; expected tensors side by side") from None
    arrays = tuple(tensors[tensor] for tensor in get_tensor_names(spec, metadata.parts))
    count = len(arrays) // len(metadata.parts)
    _validate_ranges(arrays, count, name)
    root, seed = bytes.fromhex(metadata.data_root), bytes.fromhex(metadata.seed)
    return ModelState(spec, root, seed, metadata.step, arrays[:count], arrays[count:], bytes.fromhex(metadata.start))


def write_state(path: Path, state: ModelState) -> str:
    """Write a state, whole or not at all, and return its digest; raises OSError."""
    data = encode_state(state)
    write_whole(path, data)
    return get_digest(data)


def get_digest(data: bytes) -> str:
    """Return the digest that the file of a state carries."""
    place = _find_digest(data)
    return data[place : place + len(_NO_DIGEST)].decode()


def read_state(path: Path) -> ModelState:
    """Return the state in a file; raises ModelError or OSError."""
    return decode_state(read_state_bytes(path), str(path))


def read_header(path: Path) -> Header:
    """Return what a file says of itself, its tensors unread; raises ModelError or OSError."""
    with path.open("rb") as file:
        return parse_header(file.read(8 + HEADER_BYTES_MAX), os.fstat(file.fileno()).st_size, str(path))


def read_state_bytes(path: Path) -> bytes:
    """Return all bytes of a file that has the size that its header needs; raises ModelError or OSError."""
    read_header(path)
    return path.read_bytes()


def _find_digest(data: bytes) -> int:
    return data.index(_DIGEST_MARK, 0, 8 + HEADER_BYTES_MAX) + len(_DIGEST_MARK)


def _compute_digest(data: bytes) -> str:
    """Return the digest of all bytes, the digest itself taken as zeros; "" when it is not where it belongs."""
    if _DIGEST_MARK not in data[: 8 + HEADER_BYTES_MAX]:
        return ""
    place = _find_digest(data)
    hasher = blake3(data[:place])
    hasher.update(_NO_DIGEST)
    hasher.update(memoryview(data)[place + len(_NO_DIGEST) :])
    return hasher.hexdigest()


def _validate_ranges(arrays: tuple[IntArray, ...], count: int, name: str) -> None:
    """Check what the optimizer relies on: no INT32_MIN, and second moments within the square of a gradient."""
    for place, array in enumerate(arrays):
        bounds = (0, WEIGHT_GRADIENT_MAX**2) if place >= 2 * count else (-INT32_MAX, INT32_MAX)
        lowest, highest = int(array.min()), int(array.max())
        if not bounds[0] <= lowest <= highest <= bounds[1]:
            found = f"{lowest} to {highest}"
            raise ModelError("bad-file", f"{name}: found values of {found}, expected {bounds[0]} to {bounds[1]}")
