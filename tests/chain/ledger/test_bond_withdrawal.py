"""A bond is given back whole, and never while anything that its miner did on it can still be shown."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import InvalidBlock
from chain.genesis import Parameters
from chain.ledger.bonds import get_forfeit
from chain.ledger.genesis_state import validate_genesis
from chain.ledger.keys import SUPPLY_KEY, miner_key
from chain.ledger.records import Miner
from chain.signature import SigningKey
from chain.transaction import Action, PostBond, Transfer, WithdrawBond
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, LedgerChain, make_genesis, settle_round

PARAMETERS = Parameters(evidence_blocks=10)
BOND, AGE = PARAMETERS.bond, PARAMETERS.evidence_blocks
NOTICE = WithdrawBond(BOND)


def make_chain(blocks: int = 0) -> LedgerChain:
    chain = LedgerChain(make_genesis(PARAMETERS))
    chain.mine_to(blocks, miner=CAROL)
    return chain


def miner(chain: LedgerChain, key: SigningKey = BOB) -> Miner:
    return chain.view.get_existing(miner_key(key.public_key))


def refuse(chain: LedgerChain, action: Action, key: SigningKey = BOB) -> str:
    with pytest.raises(InvalidBlock) as refusal:
        chain.execute(chain.draft(CAROL), chain.sign(key, action))
    return refusal.value.rule


def refuse_ticket(chain: LedgerChain, key: SigningKey = BOB) -> str:
    with pytest.raises(InvalidBlock) as refusal:
        chain.execute(chain.draft(key))
    return refusal.value.rule


def burned(chain: LedgerChain) -> int:
    return chain.view.get_existing(SUPPLY_KEY).burned


def make_last_block() -> LedgerChain:
    """Return a chain whose second block Bob has mined, with his own notice in it."""
    chain = make_chain(1)
    chain.mine(chain.sign(BOB, NOTICE), miner=BOB)
    return chain


def test_a_bond_comes_back_whole_after_its_notice() -> None:
    chain = make_last_block()
    assert miner(chain) == Miner(0, 0, BOND, 2 + AGE + 1)
    chain.mine_to(2 + AGE, miner=CAROL)
    before = chain.account(BOB).balance
    chain.mine(chain.sign(BOB, NOTICE, fee=7), miner=CAROL)
    assert chain.height == 2 + AGE + 1
    assert (miner(chain).bond, miner(chain).release_height) == (0, 0)
    assert chain.account(BOB).balance == before + BOND - 7


def test_until_the_block_before_the_release_evidence_burns_the_bond_and_nothing_is_given_back() -> None:
    chain = make_last_block()
    chain.mine_to(2 + AGE - 1, miner=CAROL)
    before = burned(chain)
    assert refuse(chain, NOTICE) == "bond-release"
    assert refuse(chain, chain.report(BOB, 1), DAVE) == "evidence-spent", "its age is one more than evidence may have"
    chain.mine(chain.sign(DAVE, chain.report(BOB, 2)), miner=CAROL)
    assert chain.height == 2 + AGE
    assert burned(chain) - before >= BOND - BOND // 10
    assert miner(chain) == Miner(0, 0, 0, 0)
    assert refuse(chain, NOTICE) == "bond-none"


def test_at_the_release_no_evidence_about_the_miners_blocks_is_left() -> None:
    chain = make_last_block()
    chain.mine_to(2 + AGE, miner=CAROL)
    assert refuse(chain, chain.report(BOB, 2), DAVE) == "evidence-spent"
    burns = chain.sign(DAVE, chain.report(BOB, 3)), chain.sign(BOB, NOTICE)
    assert chain.assemble(*burns, miner=CAROL) == burns[:1], "what it signed on another branch burns until the last"


def test_who_gave_notice_neither_mines_nor_commits_and_what_it_did_is_paid() -> None:
    chain = make_chain()
    chain.mine(chain.sign(BOB, chain.commit(BOB)), miner=BOB)
    chain.mine(chain.sign(BOB, NOTICE), miner=CAROL)
    assert refuse_ticket(chain) == "segment-notice"
    assert refuse(chain, chain.commit(BOB, index=1)) == "segment-notice"
    chain.mine(miner=CAROL)
    chain.mine(chain.sign(BOB, chain.prove(BOB)), miner=CAROL)
    chain.mine_to(9, miner=CAROL)
    assert chain.account(BOB).balance > FUNDS
    assert miner(chain).settled_segments == 1


def test_a_bond_can_be_posted_again_and_answers_for_what_follows_alone() -> None:
    chain = make_last_block()
    assert refuse(chain, PostBond(BOND)) == "bond-held"
    chain.mine_to(2 + AGE, miner=CAROL)
    chain.mine(chain.sign(BOB, NOTICE), miner=CAROL)
    assert refuse_ticket(chain) == "segment-bond"
    posted = chain.height + 1
    chain.mine(chain.sign(BOB, PostBond(BOND)), miner=CAROL)
    assert miner(chain) == Miner(posted, 0, BOND, 0)
    settle_start = chain.task.start_height + PARAMETERS.round_blocks
    chain.mine_to(settle_start, miner=CAROL)
    settle_round(chain, BOB, miner=BOB)
    assert refuse(chain, chain.report(BOB, posted), DAVE) == "evidence-spent"


def test_notices_that_do_not_hold_are_refused() -> None:
    chain = make_chain(1)
    assert refuse(chain, NOTICE, DAVE) == "bond-miner"
    assert refuse(chain, WithdrawBond(BOND - 1)) == "bond-amount"
    assert refuse(chain, WithdrawBond(0)) == "bond-amount"
    chain.mine(chain.sign(DAVE, chain.report(BOB, 1)), miner=CAROL)
    assert refuse(chain, NOTICE) == "bond-none"
    one, other = chain.sign(ALICE, NOTICE), chain.sign(ALICE, NOTICE, nonce=1)
    assert chain.assemble(one, other, miner=CAROL) == (one,), "a notice in the block of the first is no withdrawal"


def test_evidence_must_keep_for_as_long_as_a_reward_is_locked() -> None:
    validate_genesis(make_genesis(replace(PARAMETERS, evidence_blocks=PARAMETERS.round_blocks)))
    with pytest.raises(InvalidBlock) as refusal:
        validate_genesis(make_genesis(replace(PARAMETERS, evidence_blocks=PARAMETERS.round_blocks - 1)))
    assert refusal.value.rule == "genesis-evidence"


Step = tuple[int, int, int]


def is_able(chain: LedgerChain, key: SigningKey) -> bool:
    record = miner(chain, key)
    oldest = record.registered_height + 1 if record.registered_height else 0
    return record.bond == BOND and not record.release_height and oldest <= chain.task.start_height


def play(chain: LedgerChain, step: Step) -> None:
    """Append a block by its actor, if it may mine, with a transaction that may or may not hold.

    Who has given notice tries in every block to take its bond back.
    """
    kind, who, back = step
    key, height = (ALICE, BOB)[who], max(1, chain.height - back)
    actions: tuple[Callable[[], Action], ...] = (
        lambda: NOTICE,
        lambda: PostBond(BOND),
        lambda: Transfer(DAVE.public_key, 1 + back),
        lambda: chain.report(key, height),
    )
    sender = DAVE if kind == 3 else key
    leaving = [each for each in (ALICE, BOB) if miner(chain, each).release_height]
    tries = [chain.sign(each, NOTICE) for each in leaving]
    chain.assemble(*tries, chain.sign(sender, actions[kind](), fee=back), miner=key if is_able(chain, key) else CAROL)


STEPS = st.tuples(st.sampled_from((0, 0, 1, 2, 2, 2, 2, 3)), st.integers(0, 1), st.integers(0, 14))


@given(st.lists(STEPS, min_size=15, max_size=32))
@settings(max_examples=30, deadline=None)
def test_no_bond_is_given_back_while_a_block_of_its_miner_can_be_shown(steps: list[Step]) -> None:
    """`LedgerChain` adds up all atoms after every block; every block of a miner is tried as evidence."""
    chain = make_chain(1)
    for step in steps:
        held, before, total = {key: miner(chain, key) for key in (ALICE, BOB)}, chain.view, burned(chain)
        play(chain, step)
        if burned(chain) != total:
            continue
        for key, record in held.items():
            if not record.bond or miner(chain, key).bond:
                continue
            mined = [b.header.foliage.height for b in chain.blocks if b.header.foliage.miner == key.public_key]
            for height in mined:
                header = chain.sign_again(key, height, 1)
                assert get_forfeit(PARAMETERS, before, header, chain.height).bond == 0, (height, chain.height)
