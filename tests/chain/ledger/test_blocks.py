"""Blocks: what the header claims is compared, tickets belong to the round, and an invalid block leaves no trace."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.block import Block
from chain.errors import InvalidBlock, MissingData
from chain.genesis import Allocation, Genesis, Parameters
from chain.ledger.genesis_state import make_genesis_state
from chain.ledger.supply import compute_holdings
from chain.primitives import Hash, Signature
from chain.signature import SigningKey
from chain.transaction import Transaction, Transfer
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, FUNDS, LedgerChain, make_genesis, make_public_key

MINERS = (ALICE, BOB, CAROL)


def make_honest_block(chain: LedgerChain) -> Block:
    draft = chain.draft()
    transactions = (chain.sign(DAVE, Transfer(BOB.public_key, 5), fee=1), chain.sign(BOB, chain.commit(BOB)))
    return chain.make_block(draft, transactions, chain.execute(draft, *transactions).state_root)


def refuse(chain: LedgerChain, block: Block) -> str:
    root, content = chain.root, dict(chain.content.sidecars)
    with pytest.raises(InvalidBlock) as refusal:
        chain.apply(block)
    assert (chain.root, chain.content.sidecars) == (root, content)
    return refusal.value.rule


def with_foliage(block: Block, **changes: Any) -> Block:
    return replace(block, header=replace(block.header, foliage=replace(block.header.foliage, **changes)))


def test_claimed_roots_are_compared() -> None:
    chain = LedgerChain()
    block = make_honest_block(chain)
    assert chain.apply(block).state_root == block.header.foliage.state_root
    assert refuse(chain, with_foliage(block, state_root=Hash(bytes(32)))) == "state-root"
    assert refuse(chain, replace(block, transactions=block.transactions[:1])) == "transactions-root"
    assert refuse(chain, replace(block, transactions=block.transactions[::-1])) == "transactions-root"


def test_signatures_are_checked_unless_the_caller_has_done_so() -> None:
    chain = LedgerChain()
    block = make_honest_block(chain)
    forged = tuple(replace(transaction, signature=Signature(bytes(64))) for transaction in block.transactions)
    altered = chain.make_block(chain.draft(), forged, block.header.foliage.state_root)
    assert refuse(chain, altered) == "signature"


def test_a_block_has_a_size() -> None:
    chain = LedgerChain(make_genesis(Parameters(block_bytes_max=500)))
    assert refuse(chain, make_honest_block(chain)) == "block-size"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"task": Hash(bytes(32))}, "ticket-task"),
        ({"round": 1}, "ticket-round"),
        ({"index": 2}, "segment-index"),
        ({"anchor_height": 10}, "segment-anchor"),
        ({"anchor_height": 7}, "segment-anchor"),
    ],
)
def test_a_ticket_is_of_the_running_round(changes: dict[str, Any], rule: str) -> None:
    chain = LedgerChain()
    chain.mine_to(9)
    ticket = replace(chain.ticket(ALICE), round=1)
    chain.execute(chain.draft(ticket=ticket))
    wrong = replace(ticket, **({"round": 0} if rule == "ticket-round" else changes))
    with pytest.raises(InvalidBlock) as refusal:
        chain.execute(chain.draft(ticket=wrong))
    assert refusal.value.rule == rule


def test_only_registered_miners_mine() -> None:
    chain = LedgerChain()
    with pytest.raises(InvalidBlock) as refusal:
        chain.execute(chain.draft(DAVE))
    assert refusal.value.rule == "segment-miner"


def test_a_state_of_another_height_is_our_own_fault() -> None:
    chain = LedgerChain()
    with pytest.raises(AssertionError):
        chain.execute(replace(chain.draft(), height=33))


def test_a_settlement_waits_for_block_data() -> None:
    chain = LedgerChain()
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(3)
    chain.mine(chain.sign(BOB, chain.prove(BOB)))
    chain.mine_to(8)
    lost = chain.content.sidecars.pop(chain.contribution(BOB).sidecar_hash)
    with pytest.raises(MissingData):
        chain.execute(chain.draft())
    chain.content.add(lost)
    assert chain.mine().settlement is not None


def test_assembling_leaves_out_what_fails_and_names_why() -> None:
    chain = LedgerChain()
    good = chain.sign(DAVE, Transfer(BOB.public_key, 5))
    poor = chain.sign(BOB, Transfer(ALICE.public_key, 10 * FUNDS))
    late = chain.sign(CAROL, Transfer(ALICE.public_key, 1), nonce=4)
    assert chain.assemble(poor, good, late, good) == (good,)
    assert chain.account(DAVE).nonce == 1
    narrow = LedgerChain(make_genesis(Parameters(block_bytes_max=160 * 1024 + 200)))
    first = narrow.sign(DAVE, Transfer(BOB.public_key, 5))
    second = narrow.sign(CAROL, Transfer(BOB.public_key, 5))
    assert narrow.assemble(first, second) == (first,)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"parameters": Parameters(subsidy=2**63)}, "genesis-supply"),
        ({"parameters": Parameters(subsidy_half_life=0)}, "genesis-half-life"),
        ({"parameters": Parameters(commit_blocks=31)}, "genesis-windows"),
        ({"parameters": Parameters(proof_window=0)}, "genesis-windows"),
        ({"allocations": (Allocation(ALICE.public_key, 1),) * 2}, "genesis-allocations"),
        ({"allocations": (Allocation(ALICE.public_key, 2**64 - 1),)}, "genesis-supply"),
        ({"miners": (ALICE.public_key,) * 2}, "genesis-miners"),
        ({"miners": (make_public_key(9),)}, "genesis-bond"),
        ({"parameters": Parameters(bond=FUNDS + 10**12)}, "genesis-bond"),
    ],
)
def test_a_genesis_that_cannot_work(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidBlock) as refusal:
        make_genesis_state(replace(make_genesis(), **changes))
    assert refusal.value.rule == rule


def test_a_genesis_account_of_nothing_is_none() -> None:
    genesis: Genesis = replace(make_genesis(), allocations=(Allocation(DAVE.public_key, 0),), miners=())
    chain = LedgerChain(genesis)
    assert compute_holdings(chain.view).balances == 0


@given(st.permutations(range(4)), st.lists(st.integers(1, 10**9), min_size=4, max_size=4))
@settings(max_examples=25, deadline=None)
def test_independent_transactions_commute(order: list[int], amounts: list[int]) -> None:
    chain = LedgerChain()
    keys = (*MINERS, DAVE)
    signed = [chain.sign(key, Transfer(make_public_key(90 + i), amounts[i])) for i, key in enumerate(keys)]
    draft = chain.draft()
    shuffled = chain.execute(draft, *(signed[place] for place in order))
    assert shuffled.state_root == chain.execute(draft, *signed).state_root


def play(chain: LedgerChain, seed: int, moves: list[int]) -> None:
    """Append one block: some transfers, commits and proofs, honest or flawed, as `moves` say."""
    miner = MINERS[seed % 3]
    transactions: list[Transaction] = []
    for place, move in enumerate(moves):
        key: SigningKey = (*MINERS, DAVE)[(seed + place) % 4]
        used = sum(transaction.body.sender == key.public_key for transaction in transactions)
        nonce = chain.account(key).nonce + used
        state = chain.task
        if move == 0 or key is DAVE:
            action: Any = Transfer(make_public_key(200 + seed % 5), 1 + seed)
        elif move in (1, 2):
            flaw = bytes(32) if move == 2 else b""
            sidecar = chain.training.make_sidecar(chain.segment(key, seed % 2), flaw)
            action = chain.commit(key, seed % 2, sidecar=sidecar)
        else:
            mine = [entry for entry in state.contributions if entry.miner == key.public_key]
            if not mine:
                continue
            action = chain.prove(key, mine[seed % len(mine)].index)
        transactions.append(chain.sign(key, action, fee=seed % 7, nonce=nonce))
    chain.assemble(*transactions, miner=miner)


@given(st.lists(st.tuples(st.integers(0, 1_000), st.lists(st.integers(0, 5), max_size=4)), min_size=8, max_size=24))
@settings(max_examples=25, deadline=None)
def test_any_history_conserves_atoms_and_replays_to_the_same_root(steps: list[tuple[int, list[int]]]) -> None:
    chain = LedgerChain()
    for seed, moves in steps:
        play(chain, seed, moves)
    replayed = LedgerChain()
    replayed.content = chain.content
    for block in chain.blocks:
        effects = replayed.apply(block)
        replayed.nodes.add(effects.new_nodes)
        replayed.root = effects.state_root
    assert replayed.root == chain.root
