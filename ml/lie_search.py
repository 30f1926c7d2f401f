"""Searching for the lie in an answer: which place to have opened next, going back from the first wrong byte.

Whoever has the weights runs that byte's pass again. At a place that was opened and holds, whatever was read and differs
from the own pass was made by an earlier op, which is asked next. Weights, and what a pass reads, are bound by roots, so
the search ends at a place that nobody can open. It knows no deposit and no block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from chain.primitives import Hash
from ml.answer import Answer, compute_given, compute_last_row
from ml.answer_checks import AnswerOpening, check_pass, make_opening_reader, validate_answer
from ml.answering import Served, start_answer
from ml.disputing import Difference, Element, choose_place
from ml.forward import Forward, run_pass
from ml.openings import OpeningReader, Place
from ml.program import TensorId
from ml.segment import StepTensors
from ml.tensor_tree import IntArray


@dataclass(frozen=True, slots=True)
class ComparingReader:
    """Reads an opening, and notes where an own pass has something else: the first element of each read."""

    shown: OpeningReader
    own: Mapping[TensorId, IntArray]
    differences: list[tuple[TensorId, Element]] = field(default_factory=list)

    def read(self, tensor: TensorId, row: int, start: int, stop: int) -> IntArray:
        """Return the columns [start, stop) of a row as they are shown; raises InvalidProof."""
        found = self.shown.read(tensor, row, start, stop)
        differing = np.flatnonzero(found != self.own[tensor][row, start:stop])
        if len(differing):
            self.differences.append((tensor, Element(row, start + int(differing[0]))))
        return found

    def find_tallest(self, tensor: TensorId, column: int, rows: tuple[int, int]) -> int:
        """Return the row that the prover points at; raises InvalidProof when it is none."""
        return self.shown.find_tallest(tensor, column, rows)


@dataclass(frozen=True, slots=True)
class LieSearch:
    """The pass of an answer's first wrong byte, as it was run again."""

    answer: Answer
    number: int
    """Which pass: the place of the wrong byte in the output."""
    forward: Forward
    tensors: StepTensors
    """Those of the own pass."""
    checkpoint_roots: Sequence[Hash]

    def begin(self) -> Place:
        """Return the first place to have opened: the logit of the byte that was given."""
        producer = self.forward.program.get_producer(self.forward.logits)
        assert producer is not None
        row = compute_last_row(self.forward.program.spec, self.answer.request, self.number)
        return Place(self.number, producer.index, row, self.answer.output[self.number], 0)

    def advance(self, place: Place, opening: AnswerOpening) -> Place:
        """Return the place to have opened after one that was; raises InvalidProof when the opening does not hold.

        An opening that the ledger has taken holds.
        """
        spec = self.forward.program.spec
        shown = make_opening_reader(spec, self.answer, self.checkpoint_roots, self.number, opening)
        reader = ComparingReader(shown, self.tensors)
        check_pass(self.forward, self.answer, place, reader)
        places = [self._locate(tensor, element) for tensor, element in reader.differences]
        assert places, "a place that is asked differs, so what it was made of does too"
        # Of what was read nothing is later than the op that was asked, so the search goes back.
        return min(places, key=lambda each: each.op)

    def _locate(self, tensor: TensorId, element: Element) -> Place:
        """Return the place that shows a wrong element together with what it was made of."""
        program = self.forward.program
        producer = program.get_producer(tensor)
        assert producer is not None, "weights and what a pass reads open under their roots, so they are the same"
        difference = Difference(self.number, producer.index, producer.outputs.index(tensor))
        return choose_place(program, difference, element, self.tensors)


def start_search(served: Served, answer: Answer, checkpoint_roots: Sequence[Hash]) -> LieSearch | None:
    """Run an answer again up to its first wrong byte; None when every byte is what the model gives.

    `checkpoint_roots` must be those of the checkpoint, which must be the one that `served` holds. Raises InvalidProof
    when the answer contradicts itself.
    """
    spec = served.model.spec
    validate_answer(spec, answer)
    answering = start_answer(served, answer.request)
    for number, byte in enumerate(answer.output):
        if answering.draw() != byte:
            forward, tensors = run_pass(served.model, compute_given(spec, answer, number))
            return LieSearch(answer, number, forward, tensors, tuple(checkpoint_roots))
    return None
