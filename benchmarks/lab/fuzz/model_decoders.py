"""What models and data are made of: specs, checkpoints, data sets, manifests, sidecars' deltas and transcripts.

Models are tiny, so that whole files fit an input. Of a checkpoint file the digest can be put right, as whoever writes
one would.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from random import Random

import msgspec
import numpy as np
from blake3 import blake3

from benchmarks.lab.fuzz.decoder import Decoder, Unfaithful, hold_canonical, hold_stable
from benchmarks.lab.fuzz.drawing import Scale, draw_record
from benchmarks.lab.fuzz.record_decoders import RECORD_MUTATORS
from benchmarks.lab.fuzz.text_mutators import JSON_MUTATORS, TEXT_MUTATORS
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import Mutator
from chain.codec import encode
from chain.errors import InvalidProof
from ml.arithmetic import IntArray, get_delta_max
from ml.checkpoint import compute_initial_checkpoint, decode_checkpoint, encode_checkpoint
from ml.dataset import DIGITS_SCALE, U8, ExamplesBlob, decode_blob, encode_csv, encode_examples, encode_text
from ml.deltas import decode_delta, encode_delta
from ml.manifest import parse_manifest, read_builtin_manifests
from ml.models import build_program
from ml.openings import Opening, decode_opening
from ml.program import Op, Program, TensorId
from ml.spec import DELTA_BITS, DIGITS, Mlp, decode_spec, encode_spec
from ml.spec import Decoder as DecoderModel
from ml.tensor_tree import compute_tensor_root
from ml.trace import compute_output_roots_size
from ml.transcript import compute_transcript_size, decode_transcript
from node.models.errors import ModelError
from node.models.evaluate import Score
from node.models.provenance import FILES, Provenance, encode_provenance, make_provenance, parse_provenance
from node.models.specs import format_spec, parse_spec
from node.models.state_file import ModelState, decode_state, encode_state

TINY = replace(DIGITS, model=Mlp((4, 3, 2)), batch=2, segment_steps=2, warmup_steps=1, decay_steps=1)
_DECODER = replace(
    TINY, model=DecoderModel(8, 3, 4, 1, 2, 5, 0, 0), learning_rate=1 << 24, weight_decay=1 << 29, heldout=1
)
_DIGEST_MARK = rb"\"digest\":\""
_SPECS = (DIGITS, TINY, _DECODER, replace(_DECODER, model=DecoderModel(8, 3, 4, 1, 2, 5, 1, 1)))


def make_model_decoders() -> tuple[Decoder, ...]:
    """Return the decoders of models and data."""
    return (
        Decoder("ml.spec.decode_spec", hold_canonical(decode_spec, encode_spec), _list_specs, RECORD_MUTATORS),
        Decoder("ml.openings.decode_opening", hold_canonical(decode_opening, encode), _list_openings, RECORD_MUTATORS,
                (InvalidProof,)),
        Decoder("ml.checkpoint.decode_checkpoint",
                hold_canonical(lambda data: decode_checkpoint(_build(), data), encode_checkpoint),
                lambda: (encode_checkpoint(compute_initial_checkpoint(_build())), bytes(8 * 18)), BYTE_MUTATORS),
        Decoder("ml.dataset.decode_blob", hold_canonical(decode_blob, _encode_blob), _list_blobs, BYTE_MUTATORS),
        Decoder("ml.dataset.encode_csv", _read_csv, lambda: (b"1,2,3\n4,5,6\n", b"0,16,9", b"1,1\r\n2,2"),
                TEXT_MUTATORS),
        Decoder("ml.manifest.parse_manifest", hold_stable(parse_manifest, msgspec.json.encode), _list_data_manifests,
                JSON_MUTATORS),
        *(Decoder(f"ml.deltas.decode_delta.{bits}", partial(_read_delta, bits), partial(_list_deltas, bits),
                  BYTE_MUTATORS, (InvalidProof,)) for bits in DELTA_BITS),
        Decoder("ml.transcript.decode_transcript", _read_transcript, _list_transcripts, BYTE_MUTATORS, (InvalidProof,)),
        Decoder("node.models.specs.parse_spec", hold_stable(parse_spec, lambda spec: format_spec(spec).encode()),
                lambda: tuple(format_spec(spec).encode() for spec in _SPECS), JSON_MUTATORS, (ModelError,)),
        Decoder("node.models.provenance.parse_provenance", hold_stable(_parse_provenance, encode_provenance),
                _list_provenances, JSON_MUTATORS, (ModelError,)),
        Decoder("node.models.state_file.decode_state", _read_state, _list_states, STATE_MUTATORS, (ModelError,)),
    )  # fmt: skip


@cache
def _build() -> Program:
    return build_program(TINY)


def _list_specs() -> tuple[bytes, ...]:
    return tuple(map(encode_spec, _SPECS))


def _list_openings() -> tuple[bytes, ...]:
    rng = Random("openings")
    return tuple(encode(draw_record(Opening, rng, scale)) for scale in (Scale(40, 2), Scale(64, 20), Scale(900, 30)))


def _list_provenances() -> tuple[bytes, ...]:
    weights = compute_initial_checkpoint(_build()).weights
    state = ModelState(TINY, bytes(32), bytes(32), 1, weights, ())
    scores = (None, Score(9, 3, 4, "1.5", "0.75", "row"))
    return tuple(
        encode_provenance(make_provenance(state, "ab" * 32, score, dict.fromkeys(FILES, b""))) for score in scores
    )


def _encode_blob(found: ExamplesBlob | U8) -> bytes:
    if isinstance(found, ExamplesBlob):
        return encode_examples(found.pixels, found.labels, found.centre, found.shift)
    return encode_text(found.tobytes())


def _list_blobs() -> tuple[bytes, ...]:
    pixels, labels = np.arange(12, dtype=np.uint8).reshape(4, 3), np.arange(4, dtype=np.uint8)
    return (encode_examples(pixels, labels, 8, 12), encode_text(b"a text"), encode_text(bytes(300)))


def _read_csv(data: bytes) -> None:
    decode_blob(encode_csv(data, DIGITS_SCALE))


def _list_data_manifests() -> tuple[bytes, ...]:
    kinds = {manifest.source: manifest for manifest in read_builtin_manifests()}
    return tuple(msgspec.json.encode(manifest) for manifest in kinds.values())


@cache
def _build_odd(bits: int) -> Program:
    """Return a program whose parameters have odd counts of weights, so that with 4 bits a half byte is to spare."""
    return build_program(replace(TINY, model=Mlp((7, 5, 3)), delta_bits=bits))


def _read_delta(bits: int, data: bytes) -> None:
    program = _build_odd(bits)
    pairs = decode_delta(program, _commit_to(program, data), data)
    tensors: dict[TensorId, IntArray] = {}
    for op, pair in zip(program.delta_ops, pairs, strict=True):
        tensors.update(zip(op.outputs, pair, strict=True))
    if encode_delta(program, tensors) != data:
        raise Unfaithful("found a delta accepted that is not written so")
    highest, exponent_max = get_delta_max(bits), _get_exponent_max(bits)
    if any(abs(m.astype(int)).max() > highest or e.max() > exponent_max for m, e in pairs):
        raise Unfaithful(f"found a delta accepted with more than {highest} x 2^{exponent_max}")
    with suppress(InvalidProof):
        decode_delta(program, bytes(compute_output_roots_size(program)), data)
        raise Unfaithful("found a delta accepted under roots of other bytes")


def _commit_to(program: Program, data: bytes) -> bytes:
    """Return the output roots that name what a delta's bytes say, as the trace of whoever wrote them would."""
    roots, start = b"", 0
    for op in program.delta_ops:
        (rows, columns), bits = _get_delta_shape(program, op), program.spec.delta_bits
        size_bytes = (rows * columns * bits + 7) // 8
        packed, exponents = (
            np.frombuffer(data[first : first + size], np.uint8)
            for first, size in ((start, size_bytes), (start + size_bytes, rows))
        )
        start += size_bytes + rows
        if start > len(data):
            break
        halves = np.stack([packed << 4, packed & 240], axis=1).view(np.int8).reshape(-1)[: rows * columns] >> 4
        mantissas = halves if bits == 4 else packed.view(np.int8)
        arrays = mantissas.reshape(rows, columns), exponents.astype(np.int32).reshape(rows, 1)
        roots += b"".join(map(compute_tensor_root, arrays))
    return roots.rjust(compute_output_roots_size(program), b"\x00")


def _get_exponent_max(bits: int) -> int:
    """Return the highest exponent of a difference of two int32, whose 32 bits a mantissa's tallest bits end."""
    return 32 - (bits - 1)


def _get_delta_shape(program: Program, op: Op) -> tuple[int, int]:
    tensor = program.tensors[op.outputs[0]]
    return tensor.rows, tensor.columns


def _list_deltas(bits: int) -> tuple[bytes, ...]:
    program, rng, found = _build_odd(bits), np.random.default_rng(bits), []
    highest, exponent_max = get_delta_max(bits), _get_exponent_max(bits)
    for low, high, exponent in ((0, 0, 0), (-highest, highest, exponent_max), (highest, highest, exponent_max)):
        tensors: dict[TensorId, IntArray] = {}
        for op in program.delta_ops:
            rows, columns = _get_delta_shape(program, op)
            tensors[op.outputs[0]] = rng.integers(low, high, (rows, columns), np.int8, endpoint=True)
            tensors[op.outputs[1]] = rng.integers(0, exponent, (rows, 1), np.int32, endpoint=True)
        found.append(encode_delta(program, tensors))
    return tuple(found)


def _read_transcript(data: bytes) -> None:
    decode_transcript(_build(), 1, data)


def _list_transcripts() -> tuple[bytes, ...]:
    size_bytes = compute_transcript_size(_build(), 1)
    return (bytes(size_bytes), b"\x01\x00\x00\x00" * (size_bytes // 4) + bytes(size_bytes % 4))


def _parse_provenance(data: bytes) -> Provenance:
    return parse_provenance(data, "file")


def _read_state(data: bytes) -> None:
    state = decode_state(data, "file")
    if encode_state(state) != data:
        raise Unfaithful("found a checkpoint file accepted that is not written so")


def _list_states() -> tuple[bytes, ...]:
    found = []
    for spec in (TINY, _DECODER):
        weights = compute_initial_checkpoint(build_program(spec)).weights
        moments: list[IntArray] = [np.zeros_like(part) for part in weights]
        moments += [np.zeros(part.shape, np.int64) for part in weights]
        for kept in ((), tuple(moments)):
            found.append(encode_state(ModelState(spec, bytes(32), bytes(32), 1, weights, kept)))
    return tuple(found)


def _mend_digest(mutate: Mutator) -> Mutator:
    """Return the mutator that alters a file and then writes the digest that it needs into it."""

    def alter(rng: Random, data: bytes, other: bytes) -> bytes:
        altered = mutate(rng, data, other)
        place = altered.find(_DIGEST_MARK) + len(_DIGEST_MARK)
        if place < len(_DIGEST_MARK) or place + 64 > len(altered):
            return altered
        blank = altered[:place] + b"0" * 64 + altered[place + 64 :]
        return altered[:place] + blake3(blank).hexdigest().encode() + altered[place + 64 :]

    return alter


_STATE_BYTE_MUTATORS: Mapping[str, Mutator] = BYTE_MUTATORS | {
    name: TEXT_MUTATORS[name] for name in ("token replaced", "token inserted", "tokens deleted", "member added")
}
STATE_MUTATORS: Mapping[str, Mutator] = {
    **_STATE_BYTE_MUTATORS,
    **{f"digest mended: {name}": _mend_digest(mutate) for name, mutate in _STATE_BYTE_MUTATORS.items()},
}
