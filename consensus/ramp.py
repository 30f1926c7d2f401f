"""What the sums over skipped headers must show: difficulty between the headers that a compact proof opens.

ASERT makes a block's work a function of its parent's height and time alone, and median time past never falls. So the
first blocks of a skipped tree follow exactly from the times at its edges, and a low time later on forbids that the
blocks before it were easy: most of any `median_span` neighbours lie below every later time. Whoever shows one block of
great work must have climbed to it. It knows no header and no digest. Source: derived in docs/light-client.md.
"""

from collections.abc import Sequence

from chain.errors import InvalidProof
from consensus.asert import compute_work
from consensus.header_rules import HeaderContext, compute_target_after
from consensus.history import HistoryNode

CHUNKS_MAX = 64
"""Terms of one lower bound; eight to a half-life, so that what is left out weighs less than 1 %."""


def validate_skipped(context: HeaderContext, nodes: Sequence[HistoryNode], tip_timestamp_ms: int) -> None:
    """Check work against times for all nodes from genesis (itself first) to the tip's parent; raises InvalidProof.

    Opened headers stand among the nodes as leaves. `tip_timestamp_ms` is the time of the block after the last node.
    """
    earliest = [tip_timestamp_ms]
    for node in reversed(nodes[1:]):
        earliest.append(min(earliest[-1], node.last_timestamp_ms, node.first_timestamp_ms))
    earliest.reverse()
    height, before = nodes[0].count, nodes[0]
    for place, node in enumerate(nodes[1:]):
        later_ms = min(node.last_timestamp_ms, earliest[place + 1])
        expected, is_exact = compute_work_bound(context, (height, node), before.last_timestamp_ms, later_ms)
        if node.work < expected or (is_exact and node.work != expected):
            relation = "" if is_exact else "at least "
            raise InvalidProof(
                "proof-difficulty",
                f"found work {node.work} over {node.count} headers from {height}, expected {relation}{expected}",
            )
        height, before = height + node.count, node


def compute_work_bound(
    context: HeaderContext, placed: tuple[int, HistoryNode], before_ms: int, later_ms: int
) -> tuple[int, bool]:
    """Return the least work of a node that starts at a height, and whether it can have no other.

    `before_ms` is the time of the header before it; `later_ms` the earliest known time from its last header on.
    """
    start, node = placed
    work = compute_work_after(context, start - 1, before_ms)
    if node.count >= 2:
        work += compute_work_after(context, start, node.first_timestamp_ms)
    if node.count <= 2:
        return work, True
    return work + compute_ramp(context, range(start + 1, start + node.count - 1), later_ms - 1, node.work - work), False


def compute_work_after(context: HeaderContext, height: int, timestamp_ms: int) -> int:
    """Return the work of a child of a block of that height and time."""
    return compute_work(compute_target_after(context, height, timestamp_ms))


def compute_ramp(context: HeaderContext, parents: range, latest_ms: int, enough: int) -> int:
    """Return a lower bound of the work of the children of `parents`, when no median time there exceeds `latest_ms`.

    Of `median_span` successive headers more than half are then as early. It stops early, with less than the bound,
    where it cannot exceed `enough` anyway.
    """
    parameters = context.genesis.parameters
    span, early = parameters.median_span, parameters.median_span // 2 + 1
    windows = len(parents) // span
    if windows == 0 or windows * early * compute_work_after(context, parents[-1], latest_ms) <= enough:
        return 0
    per_chunk = max(1, parameters.half_life_ms // (8 * parameters.interval_ms * span))
    bound, stop = 0, parents.stop
    for _ in range(CHUNKS_MAX):
        taken = min(per_chunk, windows)
        stop, windows = stop - taken * span, windows - taken
        # Work grows with the height at one time, so the chunk's first height bounds all of it.
        bound += taken * early * compute_work_after(context, stop, latest_ms)
        if windows == 0:
            break
    return bound
