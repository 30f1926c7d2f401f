"""Where each record stands in the state: a name in ASCII, then fields of fixed width, big-endian.

Fixed widths make every key unambiguous. It knows nothing of what the records mean.
"""

from chain.ledger.audit_records import ActiveAuditors, Auditor, Audits
from chain.ledger.economy_records import (
    Bounty,
    Dataset,
    DatasetParts,
    DatasetSketch,
    Licence,
    Model,
    OpenBounties,
    RegisteredContent,
    Shares,
    SketchBand,
)
from chain.ledger.governance_records import Agenda, InForce, Proposal, Stake, Vote
from chain.ledger.inference_records import Inference
from chain.ledger.records import (
    Account,
    BeaconRecord,
    Checkpoint,
    Contribution,
    ContributionKey,
    Dispute,
    DisputeKey,
    DueDisputes,
    LockedReward,
    Miner,
    RoundContributions,
    Supply,
    TaskState,
)
from chain.ledger.task_records import Funding, LiveTasks, PostedTask
from chain.primitives import Hash, PublicKey
from chain.state.view import StateKey

ACCOUNT_PREFIX = b"account/"
AUDITOR_PREFIX = b"auditor/"
BOUNTY_PREFIX = b"bounty/"
CHECKPOINT_PREFIX = b"checkpoint/"
CONTRIBUTION_PREFIX = b"contribution/"
DATASET_PREFIX = b"dataset/"
DATASET_PARTS_PREFIX = b"dataset-parts/"
DISPUTE_PREFIX = b"dispute/"
INFERENCE_PREFIX = b"inference/"
LOCKED_REWARD_PREFIX = b"locked-reward/"
MINER_PREFIX = b"miner/"
MODEL_PREFIX = b"model/"
POSTED_TASK_PREFIX = b"posted-task/"
PROPOSAL_PREFIX = b"proposal/"
SHARES_PREFIX = b"shares/"
STAKE_PREFIX = b"stake/"
TASK_PREFIX = b"task/"
BEACONS_KEPT = 32
"""Heights whose beacon stays in the state: an anchor may be this old when its segment is committed."""

SUPPLY_KEY = StateKey(b"supply", Supply)
IN_FORCE_KEY = StateKey(b"in-force", InForce)
AGENDA_KEY = StateKey(b"agenda", Agenda)
LIVE_TASKS_KEY = StateKey(b"live-tasks", LiveTasks)
AUDITORS_KEY = StateKey(b"auditors", ActiveAuditors)


def account_key(account: PublicKey) -> StateKey[Account]:
    """Return where an account stands."""
    return StateKey(ACCOUNT_PREFIX + account, Account)


def miner_key(miner: PublicKey) -> StateKey[Miner]:
    """Return where a key stands that has posted a miner's bond."""
    return StateKey(MINER_PREFIX + miner, Miner)


def task_key(task: Hash) -> StateKey[TaskState]:
    """Return where a task stands."""
    return StateKey(TASK_PREFIX + task, TaskState)


def posted_task_key(task: Hash) -> StateKey[PostedTask]:
    """Return where it stands how a task was posted."""
    return StateKey(POSTED_TASK_PREFIX + task, PostedTask)


def funding_key(task: Hash) -> StateKey[Funding]:
    """Return where it stands who has funded a posted task, while it lives."""
    return StateKey(b"funding/" + task, Funding)


def checkpoint_key(task: Hash, round_number: int) -> StateKey[Checkpoint]:
    """Return where the checkpoint that a round ended with stands."""
    return StateKey(CHECKPOINT_PREFIX + task + round_number.to_bytes(4, "big"), Checkpoint)


def contribution_key(task: Hash, round_number: int, key: ContributionKey) -> StateKey[Contribution]:
    """Return where a contribution stands."""
    return StateKey(CONTRIBUTION_PREFIX + _name_contribution(task, round_number, key), Contribution)


def round_contributions_key(task: Hash, round_number: int) -> StateKey[RoundContributions]:
    """Return where it stands what was committed to a round that has ended."""
    return StateKey(b"round-contributions/" + task + round_number.to_bytes(4, "big"), RoundContributions)


def auditor_key(auditor: PublicKey) -> StateKey[Auditor]:
    """Return where an auditor stands while it has a bond."""
    return StateKey(AUDITOR_PREFIX + auditor, Auditor)


def audits_key(task: Hash, round_number: int, key: ContributionKey) -> StateKey[Audits]:
    """Return where it stands to whom a contribution is assigned."""
    return StateKey(b"audits/" + _name_contribution(task, round_number, key), Audits)


def dispute_key(key: DisputeKey) -> StateKey[Dispute]:
    """Return where a dispute stands."""
    name = _name_contribution(key.task, key.round, ContributionKey(key.miner, key.index))
    return StateKey(DISPUTE_PREFIX + name + key.challenger, Dispute)


def due_disputes_key(height: int) -> StateKey[DueDisputes]:
    """Return where it stands which disputes are decided at the end of the block at `height`, if nobody moves."""
    return StateKey(b"due/" + height.to_bytes(8, "big"), DueDisputes)


def locked_reward_key(height: int) -> StateKey[LockedReward]:
    """Return where the locked reward of the block at `height` stands."""
    return StateKey(LOCKED_REWARD_PREFIX + height.to_bytes(8, "big"), LockedReward)


def beacon_key(height: int) -> StateKey[BeaconRecord]:
    """Return where the beacon of `height` stands, in a ring of the last `BEACONS_KEPT` heights."""
    return StateKey(b"beacon/" + (height % BEACONS_KEPT).to_bytes(1, "big"), BeaconRecord)


def dataset_key(dataset: Hash) -> StateKey[Dataset]:
    """Return where a registered data set stands."""
    return StateKey(DATASET_PREFIX + dataset, Dataset)


def dataset_parts_key(dataset: Hash) -> StateKey[DatasetParts]:
    """Return where it stands what has come of a registered data set's content."""
    return StateKey(DATASET_PARTS_PREFIX + dataset, DatasetParts)


def sketch_key(dataset: Hash) -> StateKey[DatasetSketch]:
    """Return where the sketch of a registered data set stands, once all of its content has come."""
    return StateKey(b"sketch/" + dataset, DatasetSketch)


def band_key(band: int, minima: bytes) -> StateKey[SketchBand]:
    """Return where it stands which sketches have these 12 bytes of minima as their band of this number."""
    return StateKey(b"sketch-band/" + band.to_bytes(1, "big") + minima, SketchBand)


def model_key(model: Hash) -> StateKey[Model]:
    """Return where a registered model stands."""
    return StateKey(MODEL_PREFIX + model, Model)


def content_key(content_root: Hash) -> StateKey[RegisteredContent]:
    """Return where it stands who registered a content root."""
    return StateKey(b"content/" + content_root, RegisteredContent)


def bounty_key(bounty: Hash) -> StateKey[Bounty]:
    """Return where an open bounty stands."""
    return StateKey(BOUNTY_PREFIX + bounty, Bounty)


def open_bounties_key(task: Hash) -> StateKey[OpenBounties]:
    """Return where it stands which bounties of a task are open."""
    return StateKey(b"bounties/" + task, OpenBounties)


def shares_key(model: Hash, holder: PublicKey) -> StateKey[Shares]:
    """Return where an account's shares of a model stand."""
    return StateKey(SHARES_PREFIX + model + holder, Shares)


def licence_key(model: Hash, buyer: PublicKey) -> StateKey[Licence]:
    """Return where an account's licence of a model stands."""
    return StateKey(b"licence/" + model + buyer, Licence)


def stake_key(account: PublicKey) -> StateKey[Stake]:
    """Return where it stands what an account has locked to vote with."""
    return StateKey(STAKE_PREFIX + account, Stake)


def proposal_key(proposal: Hash) -> StateKey[Proposal]:
    """Return where a proposal stands."""
    return StateKey(PROPOSAL_PREFIX + proposal, Proposal)


def vote_key(proposal: Hash, account: PublicKey) -> StateKey[Vote]:
    """Return where an account's vote on a proposal stands."""
    return StateKey(b"vote/" + proposal + account, Vote)


def inference_key(inference: Hash) -> StateKey[Inference]:
    """Return where an inference stands until it is closed."""
    return StateKey(INFERENCE_PREFIX + inference, Inference)


def _name_contribution(task: Hash, round_number: int, key: ContributionKey) -> bytes:
    """Return what stands in the keys of a contribution and of all that is kept about it."""
    return task + round_number.to_bytes(4, "big") + key.miner + key.index.to_bytes(2, "big")
