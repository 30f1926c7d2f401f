"""What a node does inside that no message shows: which blocks come compact and fall back, which headers were sampled.

A probe writes a line into the journal and then does what the node would have done. It changes nothing.
"""

from collections.abc import Callable

from benchmarks.lab.simulator.journal import Journal
from node.validator import Validator
from p2p.actions import DeliverHeaders


def attach_probes(validator: Validator, name: str, journal: Journal) -> None:
    """Note of a node that has not started yet when its relay takes one of these ways."""
    network = validator.network
    compact = network._relay._compact

    def on_put(delivery: object) -> None:
        if isinstance(delivery, DeliverHeaders) and delivery.openings:
            journal.note("sampled", name, len(delivery.headers), len(delivery.openings))

    _listen(compact, "on_compact", lambda *_: journal.note("compact", name))
    _listen(compact, "_fetch_whole", lambda block_hash, *_: journal.note("fallback", name, block_hash.hex()[:16]))
    _listen(network._judge, "put", on_put)


def _listen(holder: object, name: str, hear: Callable[..., None]) -> None:
    method = getattr(holder, name)

    def call(*args: object) -> object:
        hear(*args)
        return method(*args)

    setattr(holder, name, call)
