"""The records of the state. Amounts are atoms, heights count from genesis, macs are multiply-accumulates.

They hold what is so, not what may follow; the rules stand in the modules beside. Every record is written whole, so
that a proof of one key shows all of it.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U8, U16, U32, U64, HashField, Many, PublicKeyField, Tagged
from chain.dispute import Demand
from chain.ledger.transition import ContributionStatus
from chain.ticket import Ticket

OPEN_CONTRIBUTIONS_MAX = 65_535
DUE_DISPUTES_MAX = 8_192
"""Twice what can be under dispute at a time by the bound on beginnings; encoded, they fit a value of the state."""


@dataclass(frozen=True, slots=True)
class Account:
    """What an account may spend, and how many transactions it has sent."""

    nonce: U64
    balance: U64


EMPTY_ACCOUNT = Account(nonce=0, balance=0)
"""What an account is that the state does not hold."""


@dataclass(frozen=True, slots=True)
class Miner:
    """A key that may mine and contribute while its bond is held; its segments' anchors are no older than the bond.

    `release_height` is where the bond may be taken back, zero until notice is given.
    """

    registered_height: U64
    settled_segments: U64
    bond: U64
    release_height: U64


NO_MINER = Miner(registered_height=0, settled_segments=0, bond=0, release_height=0)
"""What a key is before its first bond, and the state holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Supply:
    """The totals: what was ever issued or allocated, what burned, what the treasury holds."""

    allocated: U64
    issued: U64
    burned: U64
    treasury: U64


@dataclass(frozen=True, slots=True)
class ContributionKey:
    """Which contribution of a round: its miner and the segment's index."""

    miner: PublicKeyField
    index: U16


@dataclass(frozen=True, slots=True)
class TaskState:
    """Where a task stands: the running round, the checkpoint it starts from, what its pot holds and what it pays.

    `price` is atoms for 2^40 verified MACs. `contributions` are the round's, ordered by miner and index, so that who
    included them when leaves no trace; `held` counts those of earlier rounds that are still under dispute.
    """

    round: U32
    start_height: U64
    checkpoint_root: HashField
    heldout_loss: U64
    heldout_correct: U32
    heldout_total: U32
    pot: U64
    price: U64
    settled_contributions: U64
    held: U32
    contributions: Annotated[tuple[ContributionKey, ...], Many(OPEN_CONTRIBUTIONS_MAX)]


@dataclass(frozen=True, slots=True)
class RoundContributions:
    """All that was committed to a round that has ended, by miner and index; a round without any has no record."""

    keys: Annotated[tuple[ContributionKey, ...], Many(OPEN_CONTRIBUTIONS_MAX)]


@dataclass(frozen=True, slots=True)
class Contribution:
    """One segment that a miner answers for. `deposit` is what is locked now; `challenge` is zero until it is drawn.

    `disputes` counts the challengers that it has to answer.
    """

    status_code: U8
    commit_height: U64
    anchor_height: U64
    seed: HashField
    trace_root: HashField
    delta_root: HashField
    sidecar_hash: HashField
    challenge: HashField
    deposit: U64
    macs: U64
    reward: U64
    disputes: U16

    @property
    def status(self) -> ContributionStatus:
        """Where it stands in the transition table."""
        return ContributionStatus(self.status_code)


@dataclass(frozen=True, slots=True)
class Dispute:
    """What a challenger demanded last of an op; whoever has the turn moves in a block up to `deadline`, or loses."""

    step: U32
    op: U16
    demand: Annotated[Demand, Tagged()]
    is_answered: U8
    deadline: U64
    deposit: U64


@dataclass(frozen=True, slots=True)
class DisputeKey:
    """Which dispute: the contribution, by task, round, miner and index, and who challenges it."""

    task: HashField
    round: U32
    miner: PublicKeyField
    index: U16
    challenger: PublicKeyField


@dataclass(frozen=True, slots=True)
class DueDisputes:
    """The disputes whose deadline was set to one height, in that order; what has moved on since has another one."""

    keys: Annotated[tuple[DisputeKey, ...], Many(DUE_DISPUTES_MAX)]


@dataclass(frozen=True, slots=True)
class LockedReward:
    """A block's reward until the segment that its ticket came from settles; nothing once its miner has equivocated."""

    miner: PublicKeyField
    amount: U64
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a round ended with. `heldout_total` is zero while nothing was measured."""

    height: U64
    checkpoint_root: HashField
    heldout_loss: U64
    heldout_correct: U32
    heldout_total: U32
    contributors: U16


@dataclass(frozen=True, slots=True)
class BeaconRecord:
    """The beacon after the block at `height`."""

    height: U64
    beacon: HashField
