"""What a node says of stake, proposals, votes and values in force: sent, mined and read back with proofs that hold."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from chain.errors import InvalidTransaction
from chain.ledger.context import make_context
from chain.ledger.governance_records import Agenda, InForce, Proposal, Stake, Vote
from chain.ledger.proposals import compute_proposal_id
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.transaction import CastVote, ChangeParameter, LockStake, ProposeChange, SpendTreasury
from node.addresses import format_address
from node.mempool import AddResult
from node.rpc.client import AsyncRpcClient, RemoteError
from node.rpc.governance_methods import (
    GET_PARAMETERS,
    GET_PROPOSAL,
    GET_STAKE,
    GET_VOTE,
    LIST_PROPOSALS,
    ProposalParams,
    StakeParams,
    VoteParams,
)
from node.rpc.methods import GET_STATUS
from node.rpc.registry import Params
from node.rpc.views import to_hex
from node.wallet import sign_action
from tests.node.rpc.test_economy_methods import send, verify
from tests.support.live_node import HOLDER, MINER, LiveNode, make_genesis, run_live_node

pytestmark = pytest.mark.asyncio(loop_scope="module")
COIN = ATOMS_PER_COIN
NOTHING = Hash(b"\x07" * 32)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    genesis = make_genesis()
    quick = replace(genesis.parameters, voting_blocks=3, enactment_blocks=1)
    async with run_live_node(tmp_path_factory.mktemp("node"), genesis=replace(genesis, parameters=quick)) as node:
        await node.mine(1)
        yield node


async def test_what_does_not_exist_is_shown_to_be_absent(live: LiveNode) -> None:
    account = format_address(MINER.public_key)
    async with AsyncRpcClient(live.url) as rpc:
        proposal = await rpc.call(GET_PROPOSAL, ProposalParams(to_hex(NOTHING)))
        vote = await rpc.call(GET_VOTE, VoteParams(to_hex(NOTHING), account))
        stake = await rpc.call(GET_STAKE, StakeParams(account))
        with pytest.raises(RemoteError, match="address"):
            await rpc.call(GET_STAKE, StakeParams("mth1x"))
        with pytest.raises(RemoteError, match="parameter-type"):
            await rpc.call(GET_PROPOSAL, ProposalParams("0x12"))
    assert (proposal.status, proposal.change, proposal.yes) == (None, None, None)
    assert (vote.choice, vote.weight) == (None, "0")
    assert (stake.amount, stake.leaving, stake.release_height) == ("0", "0", None)
    for entry, record in ((proposal.entry, Proposal), (vote.entry, Vote), (stake.entry, Stake)):
        assert verify(live, entry, record) is None


async def test_parameters_come_with_bounds_and_a_proof(live: LiveNode) -> None:
    async with AsyncRpcClient(live.url) as rpc:
        found = await rpc.call(GET_PARAMETERS, Params())
        agenda = await rpc.call(LIST_PROPOSALS, Params())
    values = verify(live, found.entry, InForce)
    assert values is not None
    shown = {each.name: each for each in found.parameters}
    assert {name: int(each.value) for name, each in shown.items()} == {
        name: getattr(values, name) for name in InForce.__slots__
    }
    deposit = shown["deposit"]
    assert (deposit.value, deposit.step, deposit.unit) == (str(5 * COIN), str(5 * COIN // 2), "atoms")
    assert int(deposit.lowest) < int(deposit.value) < int(deposit.highest)
    assert (agenda.live, agenda.decided) == ([], [])
    assert verify(live, agenda.entry, Agenda) == Agenda((), ())


async def test_a_change_is_proposed_voted_on_and_enacted(live: LiveNode) -> None:
    chain_id, account = make_context(live.genesis).chain_id, format_address(HOLDER.public_key)
    await send(live, HOLDER, LockStake(900 * COIN))
    terms = ProposeChange("Raise the deposit", ChangeParameter("deposit", 7 * COIN))
    payment = ProposeChange("Pay", SpendTreasury(MINER.public_key, COIN // 10))
    nonce = live.node.parts.gate.compute_next_nonce(HOLDER.public_key)
    name = compute_proposal_id(chain_id, HOLDER.public_key, nonce, terms)
    other = compute_proposal_id(chain_id, HOLDER.public_key, nonce + 1, payment)
    await send(live, HOLDER, terms)
    await send(live, HOLDER, payment)
    cast = VoteParams(to_hex(name), account)
    async with AsyncRpcClient(live.url) as rpc:
        before = await rpc.call(GET_VOTE, cast)
        assert (before.choice, before.weight, verify(live, before.entry, Vote)) == (None, str(900 * COIN), None)
        await send(live, HOLDER, CastVote(name, 1))
        voted, open_one = await rpc.call(GET_VOTE, cast), await rpc.call(GET_PROPOSAL, ProposalParams(to_hex(name)))
        status = await rpc.call(GET_STATUS, Params())
        assert verify(live, voted.entry, Vote) == Vote(1, 900 * COIN)
        stored = verify(live, open_one.entry, Proposal)
        assert stored is not None
        assert stored.terms == terms
        assert (open_one.status, open_one.yes, open_one.title) == ("open", str(900 * COIN), "Raise the deposit")
        assert open_one.change is not None
        assert open_one.change.value == str(7 * COIN)
        assert (status.supply.stakes, int(status.supply.deposits)) == (str(900 * COIN), 20 * COIN)
        listed = await rpc.call(LIST_PROPOSALS, Params())
        assert [each.proposal for each in listed.live] == [to_hex(name), to_hex(other)]
        await live.mine(9)
        after, done = await rpc.call(GET_PARAMETERS, Params()), await rpc.call(LIST_PROPOSALS, Params())
        assert after.parameters[0].value == str(7 * COIN)
        assert {each.title: each.status for each in done.decided} == {"Raise the deposit": "enacted", "Pay": "expired"}
        shown = next(each for each in done.decided if each.title == "Pay")
        assert shown.change is not None
        assert (shown.change.recipient, shown.change.amount) == (format_address(MINER.public_key), str(COIN // 10))
        assert verify(live, done.entry, Agenda) == Agenda((), (other, name))
        stake = await rpc.call(GET_STAKE, StakeParams(account))
        assert verify(live, stake.entry, Stake) == Stake(900 * COIN, 2, 0, 0)


async def test_a_vote_that_came_too_late_leaves_the_pool(live: LiveNode) -> None:
    """It waits for a nonce that does not come while its proposal is decided, and would hold up what follows."""
    chain_id, gate = make_context(live.genesis).chain_id, live.node.parts.gate
    terms, nonce = (
        ProposeChange("Again", ChangeParameter("bond", 60 * COIN)),
        gate.compute_next_nonce(HOLDER.public_key),
    )
    await send(live, HOLDER, terms)
    name = compute_proposal_id(chain_id, HOLDER.public_key, nonce, terms)
    vote = sign_action(chain_id, HOLDER, nonce + 2, 10**6, CastVote(name, 1))
    assert await gate.admit(vote) is AddResult.ADDED
    await live.mine(2)
    assert len(live.node.parts.mempool) == 1
    await live.mine(1)
    assert len(live.node.parts.mempool) == 0
    with pytest.raises(InvalidTransaction, match="proposal-closed"):
        await gate.admit(sign_action(chain_id, HOLDER, nonce + 1, 10**6, CastVote(name, 1)))


async def test_the_pool_counts_with_the_deposit_that_is_in_force(live: LiveNode) -> None:
    assert live.node.parts.chain.parameters.deposit == 5 * COIN
    assert live.node.parts.gate._context.parameters.deposit == 7 * COIN
