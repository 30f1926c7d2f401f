"""The records of audits: who may be drawn, on what bond, and which segments are assigned to whom.

They hold what is so, not what may follow; the rules stand in `auditors` and `audits`.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U8, U32, U64, Many, PublicKeyField

AUDITORS_MAX = 64
"""Seats of auditors that may be drawn at a time: each draw looks at all of them."""
AUDITORS_PER_SEGMENT_MAX = 4


@dataclass(frozen=True, slots=True)
class Auditor:
    """An account that answers for its audits with a bond; it is drawn while `release_height` is zero.

    `missed` counts assignments that it let pass since the last one that it proved; `proven` counts all of those, and
    `paid` the atoms that they brought.
    """

    since_height: U64
    bond: U64
    release_height: U64
    missed: U8
    proven: U32
    paid: U64


@dataclass(frozen=True, slots=True)
class ActiveAuditor:
    """An auditor that may be drawn for what is committed above `since_height`, by its bond of `bond` atoms."""

    auditor: PublicKeyField
    since_height: U64
    bond: U64


@dataclass(frozen=True, slots=True)
class ActiveAuditors:
    """All auditors that may be drawn, in the order in which they entered."""

    auditors: Annotated[tuple[ActiveAuditor, ...], Many(AUDITORS_MAX)]


NO_AUDITORS = ActiveAuditors(())


@dataclass(frozen=True, slots=True)
class Audit:
    """That a segment is assigned to an auditor, and whether it has proven to have executed it."""

    auditor: PublicKeyField
    is_proven: U8


@dataclass(frozen=True, slots=True)
class Audits:
    """The audits of one contribution, until they are decided."""

    audits: Annotated[tuple[Audit, ...], Many(AUDITORS_PER_SEGMENT_MAX)]
