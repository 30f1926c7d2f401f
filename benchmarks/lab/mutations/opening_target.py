"""Openings of trained steps, one of every kind of op: judged one by one, and in a batch beside honest ones.

The attacker has trained the segment and holds every tensor. Against an honest trace it shows altered pieces, those of
other places and other witnesses; it may also have committed to a wrong output, and then opens that truthfully.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import numpy as np

from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import Attempt, Forgery, Judge, Sample, Target
from benchmarks.lab.mutations.trained import Trained, train
from benchmarks.lab.mutations.wire_mutators import WIRE_MUTATORS
from chain.codec import encode
from chain.errors import InvalidProof
from chain.primitives import Hash
from ml.arithmetic import MANTISSA_BITS
from ml.backends.cpu import checks
from ml.batching import Submission, find_faults
from ml.checks import read_claims
from ml.openings import Opening, Place, TensorReader, decode_opening
from ml.program import TensorId
from ml.proving import open_place, verify_opening
from ml.segment import StepTensors
from ml.tensor_tree import DIGEST_BYTES, PIECE_BYTES, STRIP_ROWS, IntArray, PieceOpening
from ml.trace import Trace

SIBLINGS_BYTES_MAX = (STRIP_ROWS - 1) * DIGEST_BYTES
SEED = 20
"""Decides which places are opened."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawn place of a segment with its honest opening, and the honest company that a batch puts it in."""

    trained: Trained
    place: Place
    opening: bytes
    company: tuple[Submission, ...]

    @property
    def tensors(self) -> StepTensors:
        """All tensors of the place's step."""
        return self.trained.steps[self.place.step]

    def make_judge(self, trace: Trace) -> Judge:
        """Return who judges bytes as the opening of this place under a trace."""
        if not self.company:
            return partial(verify_opening, self.trained.context, trace, self.place)
        return partial(_verify_in_company, Submission(self.trained.context, trace, self.place, b""), self.company)

    def show_bytes(self, data: bytes) -> Attempt:
        """Return the attempt to show bytes under the honest trace."""
        return Attempt(data, self.make_judge(self.trained.trace))

    def show(self, opening: Opening) -> Attempt:
        """Return the attempt to show another opening under the honest trace."""
        return self.show_bytes(encode(opening))


def _verify_in_company(blank: Submission, company: tuple[Submission, ...], data: bytes) -> None:
    faults = find_faults((company[0], replace(blank, data=data), *company[1:]), checks.verify)
    assert faults[0] is None, "an honest opening is refused because of its neighbour"
    assert all(fault is None for fault in faults[2:]), "an honest opening is refused because of its neighbour"
    if faults[1] is not None:
        raise faults[1]


def make_samples(*, is_batched: bool) -> tuple[Sample, ...]:
    """Return an opening of every kind of op of every segment."""
    scenes = [scene for name in ("digits", "decoder") for scene in _iter_scenes(train(name))]
    honest = tuple(
        Submission(scene.trained.context, scene.trained.trace, scene.place, scene.opening) for scene in scenes
    )
    if is_batched:
        # Neighbours of other kinds and of the other segment, and one of the same kind.
        scenes = [
            replace(scene, company=(honest[number - 1], honest[(number + 9) % len(scenes)], honest[number]))
            for number, scene in enumerate(scenes)
        ]
    return tuple(Sample(scene.show_bytes(scene.opening), _make_forgeries(scene)) for scene in scenes)


def _iter_scenes(trained: Trained) -> Iterator[Scene]:
    """Yield a place of each kind of op: in the first step, in a middle one, or in the last, which has the delta's."""
    program, rng = trained.context.program, Random(SEED)
    last = program.steps - 1
    for op in trained.list_ops(last):
        step = last if op.index >= len(program.ops) else rng.randrange(program.steps)
        place = draw_place(trained, step, op.index, rng)
        yield Scene(trained, place, open_place(trained.context, place, trained.steps[step], trained.trees[step]), ())


def draw_place(trained: Trained, step: int, op: int, rng: Random) -> Place:
    """Return a place of an op."""
    program = trained.context.program
    output, matmul = program.tensors[program.get_op(op).outputs[0]], program.get_matmul(op)
    depth = rng.randrange(matmul.K) if matmul is not None else 0
    return Place(step, op, rng.randrange(output.rows), rng.randrange(output.columns), depth)


def _make_forgeries(scene: Scene) -> Mapping[str, Forgery]:
    forgeries: dict[str, Forgery] = {
        "another place's opening": partial(open_elsewhere, scene),
        "wrong output, committed": partial(commit_to_lie, scene),
        "pieces of two openings": partial(mix_pieces, scene),
        "bytes between fields": partial(move_bytes, scene),
    }
    if decode_opening(scene.opening).witnesses:
        forgeries["a shorter witness"] = partial(point_elsewhere, scene)
    return forgeries


def open_elsewhere(scene: Scene, rng: Random) -> Attempt:
    """Open another place of this op truthfully, in this step or another."""
    trained, op = scene.trained, scene.place.op
    is_delta = op >= len(trained.context.program.ops)
    step = scene.place.step if is_delta else rng.randrange(len(trained.steps))
    place = draw_place(trained, step, op, rng)
    return scene.show_bytes(open_place(trained.context, place, trained.steps[step], trained.trees[step]))


def commit_to_lie(scene: Scene, rng: Random) -> Attempt:
    """Commit to a wrong value of the drawn output, in its range or not, and open it truthfully."""
    trained, place = scene.trained, scene.place
    output = trained.context.program.get_op(place.op).outputs[0]
    forged = scene.tensors[output].copy()
    turned = -1 << rng.randrange(8 * forged.itemsize)
    forged[place.row, place.column] ^= np.array(turned).astype(forged.dtype)
    trees = {tensor: tree for tensor, tree in trained.trees[place.step].items() if tensor != output}
    reader = TensorReader(trained.context.program, {**scene.tensors, output: forged}, trees)
    # Where a value is out of range the verifier stops at the same piece: what was read is all that it would read.
    with suppress(InvalidProof):
        deque(read_claims(trained.context, place, reader), maxlen=0)
    judge = scene.make_judge(trained.commit(place.step, {output: forged}))
    return Attempt(reader.encode(), judge, is_staged=True)


def mix_pieces(scene: Scene, rng: Random) -> Attempt:
    """Take one piece, or part of one, from the opening of another place of this op."""
    opening = decode_opening(scene.opening)
    others, place = decode_opening(open_elsewhere(scene, rng).data).pieces, rng.randrange(len(opening.pieces))
    mine, other = opening.pieces[place], others[min(place, len(others) - 1)]
    parts: tuple[PieceOpening, ...] = (
        other, replace(mine, data=other.data), replace(mine, siblings=other.siblings), replace(mine, path=other.path)
    )  # fmt: skip
    return scene.show(_put_piece(opening, place, rng.choice(parts)))


def move_bytes(scene: Scene, rng: Random) -> Attempt:
    """Cut a piece elsewhere: part of its data among its siblings or back, or a path of another length or order."""
    opening = decode_opening(scene.opening)
    place = rng.randrange(len(opening.pieces))
    piece = opening.pieces[place]
    cut, joined = rng.randrange(1, len(piece.data) + 1), piece.data + piece.siblings
    parts = (
        replace(piece, data=joined[:cut], siblings=joined[cut:][:SIBLINGS_BYTES_MAX]),
        replace(piece, data=joined[:PIECE_BYTES], siblings=joined[PIECE_BYTES:]),
        replace(piece, path=piece.path[::-1]),
        replace(piece, path=piece.path[:-1]),
        replace(piece, path=(*piece.path, Hash(rng.randbytes(DIGEST_BYTES)))),
    )
    return scene.show(_put_piece(opening, place, rng.choice(parts)))


def _put_piece(opening: Opening, place: int, piece: PieceOpening) -> Opening:
    return replace(opening, pieces=(*opening.pieces[:place], piece, *opening.pieces[place + 1 :]))


@dataclass(slots=True)
class _PointingReader:
    """Reads truthfully, and points at any row as the tallest."""

    reader: TensorReader
    rng: Random
    last: int = 0
    """The element that was read last: it is compared with the one pointed at."""
    is_short: bool = False
    """Whether a row was pointed at that gives the column a smaller exponent."""

    def read(self, tensor: TensorId, row: int, start: int, stop: int) -> IntArray:
        """Return what stands there."""
        part = self.reader.read(tensor, row, start, stop)
        self.last = abs(int(part[-1]))
        return part

    def find_tallest(self, tensor: TensorId, column: int, rows: tuple[int, int]) -> int:
        """Return any row of these, in the place of the true one."""
        true = self.reader.find_tallest(tensor, column, rows)
        row = self.rng.randrange(*rows)
        self.reader.witnesses[-1] = row
        true_height, height = (abs(int(self.reader.tensors[tensor][each, column])) for each in (true, row))
        self.is_short |= _get_exponent(max(self.last, height)) < _get_exponent(true_height)
        return row


def _get_exponent(height: int) -> int:
    return max(0, height.bit_length() - MANTISSA_BITS)


def point_elsewhere(scene: Scene, rng: Random) -> Attempt | None:
    """Point at another row as a column's tallest, and open that row truthfully.

    Valid by rights when it is tall enough for the column's exponent: any such row shows that the exponent is tight.
    """
    trained, place = scene.trained, scene.place
    reader = TensorReader(trained.context.program, scene.tensors, trained.trees[place.step])
    pointing = _PointingReader(reader, rng)
    deque(read_claims(trained.context, place, pointing), maxlen=0)
    return scene.show_bytes(reader.encode()) if pointing.is_short else None


_MUTATORS = BYTE_MUTATORS | WIRE_MUTATORS

TARGET_OF_OPENINGS = Target(
    "openings",
    "a piece or more around one drawn place of a committed segment, to every validator",
    partial(make_samples, is_batched=False),
    _MUTATORS,
)
TARGET_OF_BATCHES = Target(
    "batched openings",
    "the same among three honest ones in one batch, whose verdicts must not change",
    partial(make_samples, is_batched=True),
    _MUTATORS,
)
