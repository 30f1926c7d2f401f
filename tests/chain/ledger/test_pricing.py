"""The price of a verified MAC: payments fit the pot, the price moves by an eighth at most and finds its level."""

from hypothesis import given
from hypothesis import strategies as st

from chain.ledger.pricing import PRICE_MAX, PRICE_UNIT_MACS, STEP_DIVISOR, compute_next_price, compute_payment

prices = st.integers(1, PRICE_MAX)
pots = st.integers(0, 2**64 - 1)
works = st.lists(st.integers(1, 2**62), min_size=1, max_size=8)


@given(prices, pots, works)
def test_payments_never_exceed_the_pot_and_follow_work(price: int, pot: int, works: list[int]) -> None:
    total = sum(works)
    paid = [compute_payment(price, pot, macs, total) for macs in works]
    assert sum(paid) <= pot
    ordered = [payment for _, payment in sorted(zip(works, paid, strict=True))]
    assert ordered == sorted(ordered), "more work is never paid less"


@given(prices, pots, st.integers(1, 2**62), st.integers(1, 2**62))
def test_nobody_is_paid_more_when_others_are_kept_out_unless_the_pot_was_too_small(
    price: int, pot: int, own: int, others: int
) -> None:
    alone, together = compute_payment(price, pot, own, own), compute_payment(price, pot, own, own + others)
    assert alone >= together
    if price * (own + others) // PRICE_UNIT_MACS <= pot:
        assert alone == together
    assert alone <= price * own // PRICE_UNIT_MACS


@given(prices, pots, st.integers(0, 2**63))
def test_a_price_moves_by_an_eighth_at_most(price: int, pot: int, macs: int) -> None:
    after = compute_next_price(price, pot, macs)
    assert 1 <= after <= PRICE_MAX
    assert abs(after - price) <= max(1, price // STEP_DIVISOR)


@given(st.integers(10**6, 10**15), st.integers(10**9, 10**12), st.integers(10**6, 10**12))
def test_a_steady_network_finds_the_price_that_spends_its_pot(price: int, inflow: int, macs: int) -> None:
    pot = 0
    paid = 0
    for _ in range(600):
        pot += inflow
        paid = compute_payment(price, pot, macs, macs)
        price = compute_next_price(price, pot, macs)
        pot -= paid
    assert abs(paid - inflow) <= inflow // 4


def test_figures_of_the_development_network() -> None:
    assert compute_payment(1 << 45, 40_498_764_033, 284_164_096, 2 * 284_164_096) == 9_093_251_072
    assert compute_payment(1 << 45, 40_498_764_033, 284_164_096, 8 * 284_164_096) == 40_498_764_033 // 8
    assert compute_next_price(1 << 45, 40_498_764_033, 284_164_096) == (1 << 45) + (1 << 42)
    assert compute_next_price(1 << 45, 40_498_764_033, 0) == 1 << 45
