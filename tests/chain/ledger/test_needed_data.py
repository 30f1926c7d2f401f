"""What a node has to have that starts from a state: also what a dispute needs that has outlasted its task."""

from chain.dispute import DemandOpening
from chain.genesis import Parameters
from chain.ledger.keys import posted_task_key
from chain.ledger.tasks import get_live_names
from chain.ledger.transition import ContributionStatus
from node.database.exporting import get_needed_blobs
from tests.support.audits import AuditedChain
from tests.support.ledger import BOB, CAROL, DAVE, make_genesis
from tests.support.posted import make_task, post_task, register_data


def test_whoever_starts_from_a_state_needs_the_data_of_a_closed_task_for_a_dispute_that_outlasts_it() -> None:
    """What has expired holds no task up, but whoever vouched for it has still to answer."""
    chain = AuditedChain(make_genesis(Parameters(dispute_window=8)))
    dataset = register_data(chain)
    chain.mine(chain.register(DAVE))
    name = post_task(chain, make_task(chain, dataset, last_height=18))
    chain.mine_to(9)
    chain.mine(chain.sign(BOB, chain.commit(BOB)))
    chain.mine_to(12)
    demand = chain.demand(BOB, DemandOpening(0, 0, 0))
    chain.mine(chain.sign(DAVE, chain.prove_audit(DAVE, BOB)), chain.sign(CAROL, demand))
    chain.mine_to(18)
    assert (get_live_names(chain.view), chain.contribution(BOB, 0, 1).status) == ((), ContributionStatus.EXPIRED)
    root = chain.view.get_existing(posted_task_key(name)).dataset_root
    assert root in get_needed_blobs(chain.context, chain.view)
    chain.mine(chain.sign(DAVE, chain.answer(BOB, CAROL, 1)))
    assert chain.dispute(BOB, CAROL, 0, 1) is None
    assert root not in get_needed_blobs(chain.context, chain.view)
