"""The records of posted tasks: what was signed, which are live, who funded them, and what votes give them.

They hold what is so, not what may follow; the rules stand in `posted_tasks`. The first never changes and stays for
ever; the third is there while its task lives.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U16, U64, HashField, Many, PublicKeyField
from chain.transaction import PostTask

LIVE_TASKS_MAX = 4
"""Tasks that live beside that of genesis: every node scores each of them once a round, and audits what it is sent."""

FUNDERS_MAX = 32
"""Accounts that may fund one task: each has its part of what is left when it closes, in one block."""


@dataclass(frozen=True, slots=True)
class PostedTask:
    """A task as it was signed, and the root of the data that it trains on."""

    poster: PublicKeyField
    terms: PostTask
    dataset_root: HashField
    posted_height: U64


@dataclass(frozen=True, slots=True)
class LiveTasks:
    """The posted tasks that take contributions, by name."""

    names: Annotated[tuple[HashField, ...], Many(LIVE_TASKS_MAX)]


@dataclass(frozen=True, slots=True)
class Funder:
    """All that an account has put into a task's pot."""

    account: PublicKeyField
    amount: U64


@dataclass(frozen=True, slots=True)
class Funding:
    """Where a live task's atoms came from: accounts, in their order, and `subsidy` atoms of the network's.

    `share_bp` are the basis points that it gets of what a block issues for contributions.
    """

    share_bp: U16
    subsidy: U64
    funders: Annotated[tuple[Funder, ...], Many(FUNDERS_MAX)]
