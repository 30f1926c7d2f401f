"""The records of governance: stake, proposals, votes, the agenda, and the values in force of what votes may change.

They hold what is so, not what may follow; the rules stand in `stakes`, `proposals` and `bounds`. Every record is
written whole, so that a proof of one key shows all of it.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from chain.codec import U8, U16, U64, HashField, Many, PublicKeyField
from chain.transaction import ProposeChange

LIVE_MAX = 16
"""Proposals that are open or wait for their effect at a time: a block looks at each."""

DECIDED_MAX = 16
"""Proposals that the agenda still names after their fate is decided; their records stay for ever."""


class Choice(IntEnum):
    """What a vote says."""

    NO = 0
    YES = 1
    ABSTAIN = 2


class ProposalStatus(IntEnum):
    """Where a proposal stands: open → accepted, rejected or expired; accepted → enacted or lapsed."""

    OPEN = 0
    """Votes are cast."""
    ACCEPTED = 1
    """Heard and agreed to; waits for its effect."""
    ENACTED = 2
    """In effect."""
    REJECTED = 3
    """Heard and not agreed to."""
    EXPIRED = 4
    """Too few have voted; the deposit burned."""
    LAPSED = 5
    """Accepted, but out of bounds by the time of its effect."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The values in force of the parameters that votes may change; all others stand in genesis for ever."""

    deposit: U64
    bond: U64
    treasury_bp: U16
    sidecars_per_block: U16
    contributions_per_round: U16


@dataclass(frozen=True, slots=True)
class Stake:
    """An account's locked atoms: `amount` votes on what is proposed above `since_height`, where some was added last.

    `leaving` atoms vote no more and may be taken back at `release_height`; both are zero while no notice was given.
    """

    amount: U64
    since_height: U64
    leaving: U64
    release_height: U64


EMPTY_STAKE = Stake(amount=0, since_height=0, leaving=0, release_height=0)
"""What an account has locked that the state holds no stake of."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal as it was signed, and what became of it. Votes stand in blocks up to `close_height`.

    `effect_height` is zero unless it was accepted, `circulating` zero until the votes were counted: the atoms that the
    quorum is part of. `deposit` is what is locked now.
    """

    proposer: PublicKeyField
    terms: ProposeChange
    status_code: U8
    made_height: U64
    close_height: U64
    effect_height: U64
    deposit: U64
    yes: U64
    no: U64
    abstain: U64
    circulating: U64

    @property
    def status(self) -> ProposalStatus:
        """Where it stands."""
        return ProposalStatus(self.status_code)


@dataclass(frozen=True, slots=True)
class Vote:
    """What an account's vote says, and the atoms that stand behind it since it was first cast."""

    choice_code: U8
    weight: U64


@dataclass(frozen=True, slots=True)
class LiveProposal:
    """A proposal that is not decided yet, and the height at whose end something is next done about it."""

    name: HashField
    due_height: U64


@dataclass(frozen=True, slots=True)
class Agenda:
    """All live proposals, oldest first, and those that were decided last, newest last."""

    live: Annotated[tuple[LiveProposal, ...], Many(LIVE_MAX)]
    decided: Annotated[tuple[HashField, ...], Many(DECIDED_MAX)]


EMPTY_AGENDA = Agenda(live=(), decided=())
"""What a network starts with."""
