"""An importer for tests, without the node around it."""

from collections.abc import Callable

from chain.ledger.learning import LearningEngine
from node.admission import Admission, VerifyTicket
from node.chain import Chain
from node.importer import Importer
from node.threads import spread_in_line


def make_importer(
    chain: Chain,
    learning: LearningEngine,
    get_time_ms: Callable[[], int],
    verify_ticket: VerifyTicket = lambda _block, _parent: None,
) -> Importer:
    """Return an importer that runs everything in line; it believes every ticket unless a check is given."""
    return Importer(chain, learning, verify_ticket, Admission(chain, verify_ticket, get_time_ms, spread_in_line))
