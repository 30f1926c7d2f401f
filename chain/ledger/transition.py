"""The life of a contribution: one table from (status, event) to the next status.

It knows no amount and no height; what an event costs or pays stands with the code that raises it. Assigned audits and
disputes will enter between PROVEN and SETTLED: today every validator re-executes, so that re-execution is the one event
that leads on from PROVEN.
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


class ContributionEvent(StrEnum):
    """What can happen to a contribution."""

    CHALLENGE_DRAWN = auto()
    OPENINGS_VERIFIED = auto()
    PROOF_WINDOW_CLOSED = auto()
    EXECUTION_AGREED = auto()
    EXECUTION_DIFFERED = auto()


_S, _E = ContributionStatus, ContributionEvent

TRANSITIONS: dict[tuple[ContributionStatus, ContributionEvent], ContributionStatus] = {
    (_S.COMMITTED, _E.CHALLENGE_DRAWN): _S.CHALLENGED,
    (_S.CHALLENGED, _E.OPENINGS_VERIFIED): _S.PROVEN,
    (_S.CHALLENGED, _E.PROOF_WINDOW_CLOSED): _S.EXPIRED,
    (_S.PROVEN, _E.EXECUTION_AGREED): _S.SETTLED,
    (_S.PROVEN, _E.EXECUTION_DIFFERED): _S.SLASHED,
}


def compute_next_status(status: ContributionStatus, event: ContributionEvent) -> ContributionStatus:
    """Return the status after `event`; raises InvalidTransaction when the table has no such step."""
    following = TRANSITIONS.get((status, event))
    if following is None:
        wanted = " or ".join(before.name for before, on in TRANSITIONS if on is event)
        raise InvalidTransaction("contribution-status", f"found {status.name} on {event}, expected {wanted}")
    return following
