"""Posted tasks and paid answers in simulated networks: what is done in them, and that bugs in what is paid are seen."""

from dataclasses import replace
from random import Random

import pytest

from benchmarks.lab.simulator import answer_books, simulation, task_books
from benchmarks.lab.simulator.answers import Buyer, open_place
from benchmarks.lab.simulator.false_answers import LIES, answer_honestly, make_maker, make_request
from benchmarks.lab.simulator.market import draw_market
from benchmarks.lab.simulator.setting import PEOPLE, SPEC, make_setting
from benchmarks.lab.simulator.simulation import QUIET, run_seed
from chain.codec import decode
from chain.errors import InvalidProof
from chain.inference import ANSWER_OPENING_BYTES_MAX, AnswerInference, ChallengeAnswer
from chain.ledger import inference, rounds, task_pots
from chain.ledger.accounts import apply_credit, apply_to_treasury
from chain.ledger.bounties import apply_due_bounties
from chain.ledger.context import BlockScope, Event
from chain.ledger.inference_records import Inference
from chain.ledger.keys import funding_key, task_key
from chain.ledger.records import TaskState
from chain.ledger.tasks import Task, get_state
from chain.primitives import Hash, PublicKey
from chain.state.view import StateView
from ml.answer_checks import AnswerOpening
from ml.disputing import Difference
from ml.lie_search import start_search
from node.auditor import Auditor, _Segment
from node.learning import Learning

SHORT, BACKED, LONG = 22, 6, 0
"""Seeds in which nothing fails and everybody pays for something; the second has bounties of many heights."""
NAMES = (*task_books.COUNTED, *answer_books.COUNTED)


def find_failure(seed: int = SHORT) -> str:
    """Return the invariant that breaks in a seed."""
    failure = run_seed(seed).failure
    return "none" if failure is None else failure.invariant


def test_in_a_long_run_everything_happens_that_is_paid_for() -> None:
    result = run_seed(LONG)
    assert result.failure is None
    assert [name for name in NAMES if not result.actions.get(name)] == [answer_books.LOST]


def test_some_short_runs_have_a_market_and_long_ones_have_all_of_it() -> None:
    drawn = {_draw_parties(seed) for seed in range(40)}
    assert drawn == {(), PEOPLE[:2], PEOPLE[2:], PEOPLE}
    assert tuple(draw_market(make_setting(), Random, is_long=True).parties) == PEOPLE


def _draw_parties(seed: int) -> tuple[str, ...]:
    return tuple(draw_market(make_setting(), lambda name: Random(f"{seed} {name}"), is_long=False).parties)


@pytest.mark.parametrize("number", range(9))
def test_a_lie_is_opened_up_to_an_op_that_it_cannot_show(number: int) -> None:
    maker, random, name = make_maker(SPEC), Random(number), Hash(bytes(32))
    request = make_request(random)
    given = LIES[number % len(LIES)](maker, request, random)
    assert given is not None
    search = start_search(maker.served, given.traced.answer, maker.checkpoint_roots)
    assert search is not None
    place = search.begin()
    while place.op not in given.false_ops:
        asked = ChallengeAnswer(name, place.step, place.op, place.row, place.column, place.depth)
        shown = open_place(name, given, asked)
        assert shown is not None
        place = search.advance(place, decode(AnswerOpening, shown.opening, ANSWER_OPENING_BYTES_MAX))
    honest = answer_honestly(maker, request)
    assert honest.is_honest
    assert start_search(maker.served, honest.traced.answer, maker.checkpoint_roots) is None


def test_auditors_that_leave_posted_tasks_alone_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fails in this run, and more than half of those who may forge do."""
    monkeypatch.setattr(simulation, "FORGER_CHANCE", 0.6)
    begin = Auditor._begin

    async def look_away(auditor: Auditor, segment: _Segment, fault: Difference) -> None:
        if segment.task.posted is None:
            await begin(auditor, segment, fault)

    monkeypatch.setattr(Auditor, "_begin", look_away)
    failures = [run_seed(seed, focus=QUIET).failure for seed in (2, 6)]
    assert "forgery is not paid" in [failure and failure.invariant for failure in failures]


def test_rent_that_is_taken_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_pots, "RENT", 2 * task_pots.RENT)
    assert find_failure() == "a pot adds up"


def test_a_refund_that_goes_to_the_treasury_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(view: StateView, task: Task, state: TaskState) -> None:
        apply_to_treasury(view, state.pot)
        view.put(task_key(task.name), replace(state, pot=0))
        view.delete(funding_key(task.name))

    monkeypatch.setattr(task_pots, "_apply_refund", keep)
    assert find_failure() == "everybody gets what is theirs"


def test_a_bounty_that_is_never_decided_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(scope: BlockScope, view: StateView, task: Task) -> tuple[Event, ...]:
        return ()

    monkeypatch.setattr(rounds, "apply_due_bounties", wait)
    assert find_failure(BACKED) == "a bounty is paid or goes back"


def test_a_bounty_that_is_paid_for_less_than_its_mark_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def pay(scope: BlockScope, view: StateView, task: Task) -> tuple[Event, ...]:
        state = get_state(view, task)
        view.put(task_key(task.name), replace(state, heldout_correct=20_000))
        events = apply_due_bounties(scope, view, task)
        view.put(task_key(task.name), state)
        return events

    monkeypatch.setattr(rounds, "apply_due_bounties", pay)
    assert find_failure(BACKED) == "a bounty is paid for its mark"


def test_an_opening_that_is_not_checked_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learning, "verify_answer_opening", lambda *_: None)
    assert find_failure() == "no false op is opened"


def test_openings_that_are_all_refused_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise InvalidProof("refused", "found an opening, expected none")

    monkeypatch.setattr(Learning, "verify_answer_opening", refuse)
    assert find_failure(BACKED) == "an honest answer is paid"


def test_a_buyer_that_pursues_nothing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Buyer, "_pursue", lambda *_: None)
    assert find_failure(LONG) == "a lie is not paid"


def test_a_payout_that_is_all_the_providers_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def pay_all(view: StateView, found: Inference, answer: AnswerInference) -> None:
        apply_credit(view, found.terms.provider, found.deposit + found.escrow)

    monkeypatch.setattr(inference, "_apply_payout", pay_all)
    assert find_failure(LONG) == "everybody gets what is theirs"


def test_an_escrow_that_nobody_gets_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a silent provider was asked for goes to that provider all the same."""
    credit = apply_credit

    def give_away(view: StateView, account: PublicKey, amount: int) -> None:
        people = make_setting().people
        is_buyer = account == people["buyer"].public_key
        credit(view, people["provider"].public_key if is_buyer else account, amount)

    monkeypatch.setattr(inference, "apply_credit", give_away)
    assert find_failure() == "everybody gets what is theirs"


def test_a_stake_of_another_size_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    stake = inference.compute_challenge_deposit
    monkeypatch.setattr(inference, "compute_challenge_deposit", lambda parameters: stake(parameters) // 2)
    assert find_failure() == "an inference adds up"
