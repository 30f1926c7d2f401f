"""What a block is executed with, and what comes of it.

Plain data: the network's constants, the draft of a block before its roots are known, and the events that happened. It
holds no rule and no state.
"""

from dataclasses import dataclass
from enum import StrEnum, auto

from chain.genesis import Genesis, Parameters, TaskSpec, compute_chain_id, compute_task_id
from chain.ledger.governance_records import ProposalStatus
from chain.ledger.keys import task_key
from chain.ledger.learning import ContentSource, LearningEngine, Settlement
from chain.ledger.records import ContributionKey, Dispute, DisputeKey, TaskState
from chain.ledger.transition import ContributionStatus
from chain.primitives import Hash, PublicKey
from chain.state.tree import NodeChanges
from chain.state.view import StateView
from chain.ticket import Ticket


@dataclass(frozen=True, slots=True)
class LedgerContext:
    """The constants of a network, and the rules' numbers: genesis' own, or in a block those in force."""

    genesis: Genesis
    chain_id: Hash
    task_id: Hash
    parameters: Parameters

    @property
    def task(self) -> TaskSpec:
        """The task of genesis: the first one, and the one that tickets come from."""
        return self.genesis.task


def make_context(genesis: Genesis) -> LedgerContext:
    """Return the constants that follow from `genesis`."""
    chain_id = compute_chain_id(genesis)
    return LedgerContext(genesis, chain_id, compute_task_id(chain_id, genesis.task), genesis.parameters)


@dataclass(frozen=True, slots=True)
class BlockDraft:
    """What of a block is decided before its transactions are executed; `beacon` is the one after this block."""

    height: int
    timestamp_ms: int
    miner: PublicKey
    ticket: Ticket
    beacon: Hash


@dataclass(frozen=True, slots=True)
class BlockScope:
    """All that the rules may look at beside the state."""

    context: LedgerContext
    draft: BlockDraft
    learning: LearningEngine
    content: ContentSource


@dataclass(frozen=True, slots=True)
class ContributionChanged:
    """A contribution reached a status; `amount` is what was paid (settled) or burned (slashed, expired)."""

    task: Hash
    round: int
    key: ContributionKey
    status: ContributionStatus
    amount: int


@dataclass(frozen=True, slots=True)
class RewardDecided:
    """The locked reward of the block at `height` went to its miner, or burned."""

    height: int
    miner: PublicKey
    amount: int
    is_paid: bool


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round of a task ended; `settlement` is None when nothing settled and the checkpoint stays."""

    task: Hash
    round: int
    settlement: Settlement | None
    contributors: tuple[ContributionKey, ...]


@dataclass(frozen=True, slots=True)
class EquivocationPunished:
    """A miner lost the locked reward of `height`, its bond or both: `burned` atoms, and `paid` to `recipient`."""

    height: int
    miner: PublicKey
    burned: int
    recipient: PublicKey
    paid: int


class DisputeOutcome(StrEnum):
    """How a dispute ended."""

    WON = auto()
    """The miner did not answer: the contribution is slashed."""
    REFUSED = auto()
    """The op held where it was opened, or the challenger made no further demand."""
    MOOT = auto()
    """The contribution fell by something else first."""


@dataclass(frozen=True, slots=True)
class DisputeMoved:
    """A demand was made or answered; whoever has the turn has until `deadline`."""

    key: DisputeKey
    dispute: Dispute


@dataclass(frozen=True, slots=True)
class DisputeDecided:
    """A dispute ended; `paid` atoms of what its loser had locked went to its winner, `burned` to nobody."""

    key: DisputeKey
    outcome: DisputeOutcome
    paid: int
    burned: int


class AuditOutcome(StrEnum):
    """What became of an audit."""

    ASSIGNED = auto()
    """The segment's beacon drew the auditor."""
    PROVEN = auto()
    """The auditor has shown that it executed the segment, and vouches for it."""
    PAID = auto()
    """The segment has settled."""
    DISPUTED = auto()
    """The round ended with a dispute of the auditor's instead of a proof."""
    MISSED = auto()
    """The round ended without either: a part of the auditor's bond burned."""
    FALLEN = auto()
    """The segment fell in a dispute after it was vouched for: the auditor has lost its bond."""


@dataclass(frozen=True, slots=True)
class AuditChanged:
    """An audit of a contribution came to an outcome; `paid` atoms went to its auditor, or of its bond to another."""

    task: Hash
    round: int
    key: ContributionKey
    auditor: PublicKey
    outcome: AuditOutcome
    paid: int
    burned: int


class BountyOutcome(StrEnum):
    """What became of a bounty."""

    PAID = auto()
    """Its mark was reached: it is the model's income."""
    RETURNED = auto()
    """Its height has passed."""
    DISPLACED = auto()
    """A larger one took its place."""


@dataclass(frozen=True, slots=True)
class BountyDecided:
    """A bounty of `amount` atoms is not open any more."""

    name: Hash
    outcome: BountyOutcome
    amount: int


@dataclass(frozen=True, slots=True)
class TaskClosed:
    """A posted task takes no more contributions; `amount` atoms of its pot went back."""

    task: Hash
    amount: int


@dataclass(frozen=True, slots=True)
class ProposalChanged:
    """A proposal was opened, counted, enacted or found impossible."""

    name: Hash
    status: ProposalStatus


Event = (
    ContributionChanged
    | RewardDecided
    | RoundEnded
    | EquivocationPunished
    | DisputeMoved
    | DisputeDecided
    | AuditChanged
    | ProposalChanged
    | BountyDecided
    | TaskClosed
)


@dataclass(frozen=True, slots=True)
class BlockEffects:
    """What a block does: the root after it, the nodes that come and go with it, and what happened."""

    state_root: Hash
    new_nodes: NodeChanges
    events: tuple[Event, ...]

    @property
    def settlement(self) -> Settlement | None:
        """The new checkpoint of genesis' task, when this block settled a round of it that had contributions."""
        # Its round is the first that ends.
        ended = [event for event in self.events if isinstance(event, RoundEnded)]
        return ended[0].settlement if ended else None


def get_task_state(context: LedgerContext, view: StateView) -> TaskState:
    """Return where genesis' task stands, whose rounds are everybody's."""
    return view.get_existing(task_key(context.task_id))
