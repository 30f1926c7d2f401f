"""Paid answers by a real model on a real ledger: what is refused, who pays whom, and how a cheat loses (44, 38)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chain.codec import encode
from chain.errors import InvalidBlock
from chain.inference import (
    ANSWER_BYTES_MAX,
    ANSWER_OPENING_BYTES_MAX,
    CHECKPOINT_ROOTS_BYTES_MAX,
    SPEC_BYTES_MAX,
    InferenceAction,
    OpenAnswer,
)
from chain.ledger.apply import BLOCK_RESERVE_BYTES
from chain.ledger.inference import DISPUTE_BLOCKS, OPEN_BLOCKS, OPENING_WEIGHT, compute_challenge_deposit
from chain.ledger.keys import SUPPLY_KEY
from chain.ledger.weight import compute_weight
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import TRANSACTION_BYTES_MAX
from ml.answer import OUTPUT_BYTES_MAX, PASS_ROOTS_BYTES_MAX, PROMPT_BYTES_MAX, get_forward
from ml.answering import Traced
from ml.openings import OPENING_BYTES_MAX, Place
from ml.spec import SPEC_BYTES_MAX as SPEC_OF_ML_BYTES_MAX
from tests.support.answers import TEXT, make_answer, make_server
from tests.support.economy import get_model
from tests.support.ledger import ALICE, BOB, DAVE, PARAMETERS
from tests.support.paid_answers import (
    CHALLENGER,
    NAME,
    PRICE,
    PROVIDER,
    REQUESTER,
    SPEC,
    Market,
    make_padded,
    make_request,
    make_substitute,
    open_market,
)

PLACE = Place(1, 4, 0, 0, 0)
DEPOSIT, STAKE = PARAMETERS.deposit, compute_challenge_deposit(PARAMETERS)


def refuse(market: Market, key: SigningKey, action: InferenceAction, rule: str) -> None:
    with pytest.raises(InvalidBlock) as error:
        market.chain.execute(market.chain.draft(), market.chain.sign(key, action))
    assert error.value.rule == rule


def get_balances(market: Market) -> list[int]:
    return [market.chain.account(key).balance for key in (REQUESTER, PROVIDER, CHALLENGER)]


def answer(market: Market) -> None:
    market.mine(PROVIDER, market.answer(make_answer(NAME)))


def pass_blocks(market: Market, count: int) -> None:
    # Alice mines and none of those who trade here.
    market.chain.mine_to(market.chain.height + count, ALICE)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"checkpoint_root": Hash(bytes(32))}, "inference-checkpoint"),
        ({"provider": PublicKey(b"\xff" * 32)}, "recipient"),
        ({"provider_bp": 9_001}, "inference-part"),
        ({"tokens": 0}, "inference-tokens"),
        ({"price": 0}, "inference-price"),
        ({"price": 10**18}, "balance"),
        ({"price": 2**64 - 1, "tokens": 2**16 - 1}, "balance"),
        ({"deadline": 0}, "inference-deadline"),
    ],
)
def test_a_request_that_holds_nothing_is_refused(change: dict[str, object], rule: str) -> None:
    market = open_market()
    request = replace(make_request(market.chain), **change)  # type: ignore[arg-type]
    refuse(market, REQUESTER, request, rule)


def test_a_data_set_answers_nothing() -> None:
    market = open_market()
    root = market.chain.context.task.dataset_root
    refuse(market, REQUESTER, replace(make_request(market.chain), checkpoint_root=root), "model-unknown")


def test_only_the_provider_answers_once_and_in_time() -> None:
    market = open_market()
    action = market.answer(make_answer(NAME))
    refuse(market, CHALLENGER, action, "inference-provider")
    refuse(market, PROVIDER, replace(action, inference=Hash(bytes(32))), "inference-unknown")
    refuse(market, PROVIDER, replace(action, tokens=0), "inference-tokens")
    refuse(market, CHALLENGER, market.challenge(PLACE), "inference-unanswered")
    answer(market)
    refuse(market, PROVIDER, action, "inference-answered")
    late = open_market()
    late.chain.mine_to(late.request.deadline, ALICE)
    refuse(late, PROVIDER, late.answer(make_answer(NAME)), "inference-deadline")


def test_silence_of_the_provider_gives_the_escrow_back() -> None:
    market = open_market()
    before = market.chain.account(REQUESTER).balance
    refuse(market, CHALLENGER, market.close(), "inference-early")
    market.chain.mine_to(market.request.deadline, ALICE)
    market.mine(CHALLENGER, market.close())
    assert market.record is None
    assert market.chain.account(REQUESTER).balance == before + 6 * PRICE
    refuse(market, CHALLENGER, market.close(), "inference-unknown")


def test_an_undisputed_answer_is_paid_by_the_byte() -> None:
    market = open_market()
    before, treasury = get_balances(market), market.chain.view.get_existing(SUPPLY_KEY).treasury
    answer(market)
    assert market.chain.account(PROVIDER).balance == before[1] - DEPOSIT
    pass_blocks(market, DISPUTE_BLOCKS - 1)
    refuse(market, REQUESTER, market.close(), "inference-early")
    market.chain.mine(miner=ALICE)
    issued = market.chain.view.get_existing(SUPPLY_KEY).treasury
    market.mine(CHALLENGER, market.close())
    # Half is the provider's; of the model's half a hundredth is the treasury's and a fifth the author's.
    share = 5 * PRICE // 2
    after = get_balances(market)
    assert after == [before[0] + PRICE + share // 5, before[1] + share, before[2]]
    assert get_model(market.chain, market.model).held == share - share // 100 - share // 5
    assert market.chain.view.get_existing(SUPPLY_KEY).treasury >= issued + share // 100 > treasury
    assert market.record is None


def test_an_honest_provider_opens_and_the_challenger_pays() -> None:
    market = open_market()
    answer(market)
    before = get_balances(market)
    market.mine(CHALLENGER, market.challenge(PLACE))
    refuse(market, DAVE, market.challenge(PLACE), "inference-challenged")
    burned = market.chain.view.get_existing(SUPPLY_KEY).burned
    shown = market.open_challenged(make_server(NAME), make_answer(NAME))
    market.mine(PROVIDER, shown)
    assert get_balances(market) == [before[0], before[1] + STAKE // 2, before[2] - STAKE]
    assert market.chain.view.get_existing(SUPPLY_KEY).burned == burned + STAKE - STAKE // 2
    refuse(market, PROVIDER, shown, "inference-unchallenged")
    # The next step of whoever goes back from the output: the window begins anew.
    market.mine(CHALLENGER, market.challenge(replace(PLACE, step=0)))
    market.mine(PROVIDER, market.open_challenged(make_server(NAME), make_answer(NAME)))
    pass_blocks(market, DISPUTE_BLOCKS)
    refuse(market, CHALLENGER, market.challenge(PLACE), "inference-window")
    market.mine(REQUESTER, market.close())
    assert market.record is None


def test_a_place_that_no_answer_has_is_answered_by_the_answer() -> None:
    market = open_market()
    answer(market)
    for change in ({"step": 5}, {"op": 60_000}, {"row": 2**32 - 1}, {"column": 2**32 - 1}, {"depth": 2**32 - 1}):
        market.mine(CHALLENGER, market.challenge(replace(PLACE, **change)))
        shown = market.open(make_server(NAME), make_answer(NAME), PLACE)
        market.mine(PROVIDER, shown)
        assert market.record is not None
        assert market.record.challenges == ()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda shown: replace(shown, spec=shown.spec[:-1]), "claim-encoding"),
        (lambda shown: replace(shown, answer=shown.answer + b"\0"), "claim-encoding"),
        (lambda shown: replace(shown, opening=shown.opening[:-1]), "claim-encoding"),
        (lambda shown: replace(shown, checkpoint_roots=shown.checkpoint_roots[:-1]), "checkpoint-roots"),
        (lambda shown: replace(shown, checkpoint_roots=shown.checkpoint_roots[32:]), "checkpoint-roots"),
        (lambda shown: replace(shown, checkpoint_roots=bytes(len(shown.checkpoint_roots))), "checkpoint-root"),
        (lambda shown: replace(shown, inference=Hash(bytes(32))), "inference-unknown"),
    ],
)
def test_an_opening_that_does_not_fit_is_refused(change: Callable[[OpenAnswer], OpenAnswer], rule: str) -> None:
    market = open_market()
    answer(market)
    market.mine(CHALLENGER, market.challenge(PLACE))
    refuse(market, PROVIDER, change(market.open_challenged(make_server(NAME), make_answer(NAME))), rule)


def test_an_opening_of_another_place_is_refused() -> None:
    market = open_market()
    answer(market)
    market.mine(CHALLENGER, market.challenge(PLACE))
    for other in (replace(PLACE, step=2), replace(PLACE, op=5)):
        shown = market.open(make_server(NAME), make_answer(NAME), other)
        with pytest.raises(InvalidBlock):
            market.chain.execute(market.chain.draft(), market.chain.sign(PROVIDER, shown))


def forfeit(market: Market, before: list[int]) -> None:
    """Let the window pass and show that escrow and half of the deposit go to those who were wronged."""
    pass_blocks(market, OPEN_BLOCKS - 1)
    refuse(market, REQUESTER, market.close(), "inference-early")
    market.chain.mine(miner=ALICE)
    burned = market.chain.view.get_existing(SUPPLY_KEY).burned
    market.mine(REQUESTER, market.close())
    assert get_balances(market) == [before[0] + 6 * PRICE, before[1], before[2] + STAKE + DEPOSIT // 2]
    assert market.chain.view.get_existing(SUPPLY_KEY).burned == burned + DEPOSIT - DEPOSIT // 2
    assert market.record is None


def test_silence_under_a_challenge_costs_the_deposit() -> None:
    market = open_market()
    answer(market)
    market.mine(CHALLENGER, market.challenge(PLACE))
    before = get_balances(market)
    forfeit(market, before)


def test_an_opening_that_comes_late_is_refused() -> None:
    market = open_market()
    answer(market)
    market.mine(CHALLENGER, market.challenge(PLACE))
    shown = market.open_challenged(make_server(NAME), make_answer(NAME))
    pass_blocks(market, OPEN_BLOCKS - 1)
    market.chain.execute(market.chain.draft(), market.chain.sign(PROVIDER, shown))
    market.chain.mine(miner=ALICE)
    refuse(market, PROVIDER, shown, "inference-window")


def test_threat_44_a_substituted_model_cannot_open_where_weights_are_read() -> None:
    market = open_market()
    server, traced = make_substitute()
    market.mine(PROVIDER, market.answer(traced))
    # The first op reads the embedding table.
    market.mine(CHALLENGER, market.challenge(Place(0, 0, 0, 0, 0)))
    refuse(market, PROVIDER, market.open_challenged(server, traced), "tensor-root")
    forfeit(market, get_balances(market))


def test_threat_44_a_padded_count_is_refused_or_cannot_be_opened() -> None:
    market = open_market()
    refuse(market, PROVIDER, market.answer(make_answer(NAME), tokens=7), "inference-tokens")
    # A count that the answer does not have.
    market.mine(PROVIDER, market.answer(make_answer(NAME), tokens=6))
    market.mine(CHALLENGER, market.challenge(PLACE))
    refuse(market, PROVIDER, market.open_challenged(make_server(NAME), make_answer(NAME)), "claim-tokens")
    forfeit(market, get_balances(market))
    # An answer that goes on behind its end.
    market = open_market()
    market.mine(PROVIDER, market.answer(make_padded()))
    market.mine(CHALLENGER, market.challenge(PLACE))
    refuse(market, PROVIDER, market.open_challenged(make_server(NAME), make_padded()), "answer-length")
    forfeit(market, get_balances(market))


def test_threat_44_a_byte_that_no_draw_gives_cannot_be_opened() -> None:
    """Whoever looks for the lie asks for the logit of that byte, and there is none: no place, but no way out either."""
    market, server, honest = open_market(), make_server(NAME), make_answer(NAME)
    output = honest.answer.output[:-1] + b"\xff"
    lie = Traced(replace(honest.answer, output=output), honest.passes)
    market.mine(PROVIDER, market.answer(lie))
    logits = get_forward(SPEC, TEXT, len(output) - 1).program.ops[-1]
    market.mine(CHALLENGER, market.challenge(Place(len(output) - 1, logits.index, 0, output[-1], 0)))
    shown = replace(market.open(server, honest, PLACE), answer=encode(lie.answer))
    refuse(market, PROVIDER, shown, "answer-byte")


def test_threat_44_an_answer_to_another_request_cannot_be_opened() -> None:
    market = open_market()
    traced = make_answer("decoder-tied")
    market.mine(PROVIDER, market.answer(traced))
    market.mine(CHALLENGER, market.challenge(PLACE))
    shown = replace(market.open(make_server(NAME), make_answer(NAME), PLACE))
    refuse(market, PROVIDER, shown, "claim-trace-root")
    forfeit(market, get_balances(market))


def test_threat_38_answering_oneself_costs_the_parts_of_others() -> None:
    market = open_market()
    chain, nothing = market.chain, get_model(market.chain, market.model).units
    answer(market)
    pass_blocks(market, DISPUTE_BLOCKS)
    # Requester and provider taken together lose what the treasury and the shareholders get; no unit is made by it.
    before = sum(get_balances(market)[:2])
    market.mine(ALICE, market.close())
    gained = sum(get_balances(market)[:2]) - before - DEPOSIT - 6 * PRICE
    share = 5 * PRICE // 2
    assert gained == share // 5 - share
    assert get_model(chain, market.model).units == nothing == 0


def test_a_block_has_no_more_openings_than_it_may() -> None:
    market = open_market()
    answer(market)
    market.mine(CHALLENGER, market.challenge(PLACE))
    shown = market.open_challenged(make_server(NAME), make_answer(NAME))
    chain, most = market.chain, PARAMETERS.block_bytes_max // OPENING_WEIGHT
    nonce = chain.account(PROVIDER).nonce
    many = [chain.sign(PROVIDER, shown, nonce=nonce + place) for place in range(most + 1)]
    with pytest.raises(InvalidBlock) as error:
        chain.execute(chain.draft(), *many)
    assert error.value.rule == "block-openings"
    with pytest.raises(InvalidBlock) as error:
        chain.execute(chain.draft(), *many[:-1])
    assert error.value.rule == "inference-unchallenged"


def test_an_assembled_block_keeps_the_bound_by_weight() -> None:
    shown = open_market().chain.sign(BOB, OpenAnswer(Hash(bytes(32)), b"1", b"1", b"", b"1"))
    weight_max = PARAMETERS.block_bytes_max - BLOCK_RESERVE_BYTES
    assert weight_max // compute_weight(shown, len(encode(shown))) < PARAMETERS.block_bytes_max // OPENING_WEIGHT


def test_bounds_on_the_chain_hold_what_ml_makes() -> None:
    assert SPEC_BYTES_MAX == SPEC_OF_ML_BYTES_MAX
    assert ANSWER_BYTES_MAX > PROMPT_BYTES_MAX + OUTPUT_BYTES_MAX + 1024
    assert ANSWER_OPENING_BYTES_MAX > PASS_ROOTS_BYTES_MAX + OPENING_BYTES_MAX + 1024
    total = SPEC_BYTES_MAX + ANSWER_BYTES_MAX + CHECKPOINT_ROOTS_BYTES_MAX + ANSWER_OPENING_BYTES_MAX
    assert total < TRANSACTION_BYTES_MAX
