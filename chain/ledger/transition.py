"""The life of a contribution: one table from (status, event) to the next status.

It knows no amount and no height; what an event costs or pays stands with the code that raises it. Whoever executes a
segment again and finds another result disputes it; what nobody has disputed when its round ends is settled.
"""

from enum import IntEnum, StrEnum, auto

from chain.errors import InvalidTransaction


class ContributionStatus(IntEnum):
    """Where a contribution stands; the numbers are part of the state's encoding."""

    COMMITTED = 0
    CHALLENGED = 1
    PROVEN = 2
    SETTLED = 3
    SLASHED = 4
    EXPIRED = 5
    HELD = 6
    """Proven, but under dispute when its round ended: it enters no checkpoint, and is paid once it is cleared."""


class ContributionEvent(StrEnum):
    """What can happen to a contribution."""

    CHALLENGE_DRAWN = auto()
    OPENINGS_VERIFIED = auto()
    PROOF_WINDOW_CLOSED = auto()
    ROUND_ENDED = auto()
    ROUND_ENDED_IN_DISPUTE = auto()
    DISPUTES_REFUSED = auto()
    DISPUTE_WON = auto()


_S, _E = ContributionStatus, ContributionEvent

TRANSITIONS: dict[tuple[ContributionStatus, ContributionEvent], ContributionStatus] = {
    (_S.COMMITTED, _E.CHALLENGE_DRAWN): _S.CHALLENGED,
    (_S.CHALLENGED, _E.OPENINGS_VERIFIED): _S.PROVEN,
    (_S.CHALLENGED, _E.PROOF_WINDOW_CLOSED): _S.EXPIRED,
    (_S.PROVEN, _E.ROUND_ENDED): _S.SETTLED,
    (_S.PROVEN, _E.ROUND_ENDED_IN_DISPUTE): _S.HELD,
    (_S.HELD, _E.DISPUTES_REFUSED): _S.SETTLED,
    (_S.COMMITTED, _E.DISPUTE_WON): _S.SLASHED,
    (_S.CHALLENGED, _E.DISPUTE_WON): _S.SLASHED,
    (_S.PROVEN, _E.DISPUTE_WON): _S.SLASHED,
    (_S.HELD, _E.DISPUTE_WON): _S.SLASHED,
    # Only while somebody's bond answers for it: whoever vouched cannot escape by the miner's silence elsewhere.
    (_S.EXPIRED, _E.DISPUTE_WON): _S.SLASHED,
}


def compute_next_status(status: ContributionStatus, event: ContributionEvent) -> ContributionStatus:
    """Return the status after `event`; raises InvalidTransaction when the table has no such step."""
    following = TRANSITIONS.get((status, event))
    if following is None:
        wanted = " or ".join(before.name for before, on in TRANSITIONS if on is event)
        raise InvalidTransaction("contribution-status", f"found {status.name} on {event}, expected {wanted}")
    return following


def format_diagram() -> str:
    """Return the table as a Mermaid state diagram, by status before and after."""
    arrows = [
        f"    {before.name} --> {after.name}: {event.value.replace('_', ' ')}"
        for before, after, event in sorted((before, after, event) for (before, event), after in TRANSITIONS.items())
    ]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {_S.COMMITTED.name}: commit", *arrows])
