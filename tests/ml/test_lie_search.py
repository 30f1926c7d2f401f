"""Going back from a wrong byte: whatever op a liar altered, the search ends at a place that he cannot open."""

from dataclasses import replace

import pytest

from chain.errors import InvalidProof
from ml.answer import compute_answer_trace_root
from ml.answering import Traced, open_answer
from ml.forward import Forward
from ml.lie_search import start_search
from ml.openings import Place
from ml.program import Op, OpKind
from tests.support.answers import get_checkpoint_roots, make_answer, make_server
from tests.support.liars import Liar, make_liar, run_first_pass
from tests.support.models import TINY_SPECS

NAMES = list(TINY_SPECS)


def search(liar: Liar) -> tuple[list[Place], str]:
    """Return the places that were asked, and the rule by which the last one cannot be opened."""
    found = start_search(make_server(liar.name), liar.traced.answer, get_checkpoint_roots(liar.name))
    assert found is not None
    assert found.number == 0
    places = [found.begin()]
    while True:
        try:
            opening = liar.open(places[-1])
        except InvalidProof as error:
            return places, error.rule
        places.append(found.advance(places[-1], opening))


@pytest.mark.parametrize("name", NAMES)
def test_an_altered_op_is_found_from_the_wrong_byte(name: str) -> None:
    forward, found = run_first_pass(name)[0], 0
    for op in forward.program.ops:
        for output in range(len(op.outputs)):
            liar = make_liar(name, op, output)
            if liar is None:
                continue
            places, rule = search(liar)
            assert places[-1].op == op.index or _checks_producer(forward, places[-1], op), (op, places, rule)
            assert len(places) <= len(forward.program.ops) + 1
            found += 1
    # Whatever reaches the last row of logits is found; only a rotation of nothing, or the like, changes no byte.
    assert found >= len(forward.program.ops) - 2


def _checks_producer(forward: Forward, place: Place, op: Op) -> bool:
    """Say whether a place of a product shows an altered quantisation of its operands, which its check covers too."""
    asked = forward.program.ops[place.op]
    return asked.kind is OpKind.LINEAR and not set(op.outputs).isdisjoint(asked.inputs)


@pytest.mark.parametrize("name", NAMES)
def test_an_honest_answer_has_no_lie(name: str) -> None:
    assert start_search(make_server(name), make_answer(name).answer, get_checkpoint_roots(name)) is None


def test_a_false_root_alone_gives_no_wrong_byte() -> None:
    """The requester has what the model gives; there is nothing that he would win."""
    traced = make_answer("decoder")
    passes = (bytes(len(traced.passes[0])), *traced.passes[1:])
    answer = replace(traced.answer, trace_root=compute_answer_trace_root(passes))
    assert start_search(make_server("decoder"), answer, get_checkpoint_roots("decoder")) is None


def test_a_later_byte_is_searched_in_its_own_pass() -> None:
    server, traced = make_server("decoder"), make_answer("decoder")
    output = bytearray(traced.answer.output)
    output[3] ^= 1
    answer = replace(traced.answer, output=bytes(output))
    found = start_search(server, answer, get_checkpoint_roots("decoder"))
    assert found is not None
    place = found.begin()
    assert (found.number, place.step) == (3, 3)
    assert place.column == output[3]
    with pytest.raises(InvalidProof, match="answer-draw"):
        open_answer(server, Traced(answer, traced.passes), (place,))


def test_an_answer_that_contradicts_itself_is_not_searched() -> None:
    answer = replace(make_answer("decoder").answer, output=b"abc")
    with pytest.raises(InvalidProof, match="answer-length"):
        start_search(make_server("decoder"), answer, get_checkpoint_roots("decoder"))


def test_an_opening_that_does_not_hold_is_refused() -> None:
    liar = make_liar("decoder", run_first_pass("decoder")[0].program.ops[-1], 0)
    assert liar is not None
    found = start_search(make_server("decoder"), liar.traced.answer, get_checkpoint_roots("decoder"))
    assert found is not None
    place = found.begin()
    honest = open_answer(make_server("decoder"), make_answer("decoder"), (place,))[0]
    with pytest.raises(InvalidProof, match="merkle-root"):
        found.advance(place, honest)
