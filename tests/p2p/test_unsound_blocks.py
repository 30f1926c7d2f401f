"""A block that cost its maker a ticket and breaks a rule of content: who passes it on may not have executed it."""

import pytest

from chain.primitives import Hash, PublicKey
from p2p.actions import Charge
from p2p.limits import Limits
from p2p.messages import Inventory, Item, ItemKind
from p2p.relay import Relay
from p2p.score import Fault, ScoreBoard, Standing
from p2p.view import Outcome, SubmitResult
from tests.support.scripted_chain import GENESIS, ScriptedChain, make_block

ANN = PublicKey(b"a" * 32)


@pytest.mark.parametrize(
    ("is_executed", "fault", "standing"),
    [(True, Fault.UNSOUND_BLOCK, Standing.GOOD), (False, Fault.INVALID_BLOCK, Standing.BANNED)],
)
def test_who_passes_on_what_only_execution_shows_is_not_banned(
    is_executed: bool, fault: Fault, standing: Standing
) -> None:
    chain = ScriptedChain()
    block_hash = chain.add(make_block(GENESIS, 1))
    if is_executed:
        chain.found_invalid.add(block_hash)
    del chain.blocks[block_hash]
    relay = Relay(chain, Limits(), Hash(bytes(32)))
    relay.on_established(ANN)
    relay.on_message(ANN, Inventory((Item(ItemKind.BLOCK, block_hash),)), 0)
    relay.poll(0)
    relay.on_block_outcome(ANN, block_hash, SubmitResult(Outcome.INVALID, "state-root"), 1)
    (charge,) = (action for action in relay.poll(1) if isinstance(action, Charge))
    assert charge.fault is fault
    assert ScoreBoard().add(ANN, charge.fault, 1) is standing
