"""Transactions: what an account may ask of the ledger, each signed for one chain and one nonce.

Their rules are the ledger's business; here are only their fields, hashes and sizes.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.audit import AuditAction
from chain.codec import (
    U8,
    U16,
    U32,
    U64,
    Bytes,
    HashField,
    Many,
    PublicKeyField,
    SignatureField,
    Tagged,
    Text,
    Uint,
    encode,
)
from chain.dispute import AnswerDispute, DisputeContribution
from chain.hashing import tagged_hash
from chain.header import Header
from chain.inference import InferenceAction
from chain.primitives import Hash

TRANSACTION_BYTES_MAX = 640 * 1024
OPENING_BYTES_MAX = 64 * 1024
SIDECAR_BYTES_MAX = 1024 * 1024
DATASETS_PER_MODEL_MAX = 8

Units = Annotated[int, Uint(128)]
"""Share units: one for each verified multiply-accumulate. 2^64 segments of 2^64 MACs each would not fill them."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Move `amount` atoms to another account."""

    recipient: PublicKeyField
    amount: U64


@dataclass(frozen=True, slots=True)
class CommitContribution:
    """Bind a miner to one finished segment before anyone knows which places of it will be drawn.

    The seed is that of a branch: on another the same height has another beacon, and the segment would be a forgery.
    """

    task: HashField
    round: U32
    index: U16
    anchor_height: U64
    seed: HashField
    trace_root: HashField
    delta_root: HashField
    sidecar_hash: HashField


@dataclass(frozen=True, slots=True)
class ProveContribution:
    """Open the places that the beacon drew from a committed segment, in the order drawn."""

    task: HashField
    round: U32
    index: U16
    openings: Annotated[tuple[Annotated[bytes, Bytes(1, OPENING_BYTES_MAX)], ...], Many(64)]


@dataclass(frozen=True, slots=True)
class ReportEquivocation:
    """Show two headers that one miner signed for one ticket, by ascending hash; `recipient` is paid for it."""

    first: Header
    second: Header
    recipient: PublicKeyField


@dataclass(frozen=True, slots=True)
class PostBond:
    """Lock a bond of `amount` atoms again, for a miner that holds none any more."""

    amount: U64


@dataclass(frozen=True, slots=True)
class WithdrawBond:
    """Give notice for the sender's bond of `amount` atoms; once its release height is reached, take it back."""

    amount: U64


@dataclass(frozen=True, slots=True)
class RegisterDataset:
    """Enter a data set: its content, SPDX licence, and the basis points that its owner gets of models' income."""

    content_root: HashField
    licence: Annotated[str, Text(64)]
    royalty_bp: U16


@dataclass(frozen=True, slots=True)
class RegisterModel:
    """Enter a model; all of it is fixed for life. A `licence_price` of zero atoms means that none is sold.

    `royalty_bp` is what each child owes, `author_bp` what its own author gets; `datasets` ascend.
    """

    name: Annotated[str, Text(64)]
    spec_hash: HashField
    checkpoint_root: HashField
    licence: Annotated[str, Text(64)]
    licence_price: U64
    royalty_bp: U16
    author_bp: U16
    parents: Annotated[tuple[HashField, ...], Many(1)]
    datasets: Annotated[tuple[HashField, ...], Many(DATASETS_PER_MODEL_MAX)]


@dataclass(frozen=True, slots=True)
class TransferShares:
    """Move share units of a model to another account; what they earned before stays with the sender."""

    model: HashField
    recipient: PublicKeyField
    units: Units


@dataclass(frozen=True, slots=True)
class BuyLicence:
    """Pay the `price` in atoms that a model's licence has, once an account."""

    model: HashField
    price: U64


@dataclass(frozen=True, slots=True)
class PayModel:
    """Pay `amount` atoms to whoever a model's income belongs to, for anything but a licence."""

    model: HashField
    amount: U64


@dataclass(frozen=True, slots=True)
class ClaimIncome:
    """Take out all whole atoms that the sender's units of a model have earned."""

    model: HashField


@dataclass(frozen=True, slots=True)
class LockStake:
    """Lock `amount` atoms; they vote on what is proposed afterwards."""

    amount: U64


@dataclass(frozen=True, slots=True)
class UnlockStake:
    """Give notice for `amount` atoms of the sender's stake; once their release height is reached, take them back."""

    amount: U64


@dataclass(frozen=True, slots=True)
class ChangeParameter:
    """Set a parameter that votes may change, by its name."""

    parameter: Annotated[str, Text(32)]
    value: U64


@dataclass(frozen=True, slots=True)
class SpendTreasury:
    """Pay `amount` atoms of the treasury to an account."""

    recipient: PublicKeyField
    amount: U64


@dataclass(frozen=True, slots=True)
class SubsidiseTask:
    """Give a live posted task `share_bp` basis points of what each block issues for contributions, until it ends."""

    task: HashField
    share_bp: U16


Change = ChangeParameter | SpendTreasury | SubsidiseTask


@dataclass(frozen=True, slots=True)
class ProposeChange:
    """Put one change to the vote, for a deposit."""

    title: Annotated[str, Text(128)]
    change: Annotated[Change, Tagged()]


@dataclass(frozen=True, slots=True)
class CastVote:
    """Vote on a proposal with all stake that was locked before it, or vote otherwise than before."""

    proposal: HashField
    choice_code: U8


@dataclass(frozen=True, slots=True)
class PostBounty:
    """Put up `amount` atoms for a task's model to answer `correct_min` held-out records by `last_height`."""

    task: HashField
    amount: U64
    correct_min: U32
    last_height: U64


@dataclass(frozen=True, slots=True)
class PostTask:
    """Have a `model` trained by `program` until `last_height`, and put `budget` atoms into its pot.

    `data_hash` names block data with a part of one of the model's data sets, all of which has come, or that is its
    only one. `model.checkpoint_root` is where training starts: the program's own first checkpoint, or the one at which
    the model's parent stands. `price` is what the first round pays at most, in atoms for 2^40 verified MACs.
    """

    program: Annotated[bytes, Bytes(1, 4096)]
    model: RegisterModel
    data_hash: HashField
    budget: U64
    price: U64
    last_height: U64


@dataclass(frozen=True, slots=True)
class FundTask:
    """Add `amount` atoms to the pot of a live posted task."""

    task: HashField
    amount: U64


@dataclass(frozen=True, slots=True)
class AddDatasetPart:
    """Bring part `index` of a registered data set's content, which has `size_bytes` in all, as block data."""

    dataset: HashField
    size_bytes: U64
    index: U16
    sidecar_hash: HashField


MarketAction = RegisterDataset | RegisterModel | TransferShares | BuyLicence | PayModel | ClaimIncome
EconomyAction = MarketAction | AddDatasetPart
DisputeAction = DisputeContribution | AnswerDispute
TaskAction = PostBounty | PostTask | FundTask
GovernanceAction = LockStake | UnlockStake | ProposeChange | CastVote
Action = (
    Transfer
    | CommitContribution
    | ProveContribution
    | ReportEquivocation
    | PostBond
    | WithdrawBond
    | RegisterDataset
    | RegisterModel
    | TransferShares
    | BuyLicence
    | PayModel
    | ClaimIncome
    | DisputeAction
    | GovernanceAction
    | PostBounty
    | InferenceAction
    | PostTask
    | FundTask
    | AuditAction
    | AddDatasetPart
)


@dataclass(frozen=True, slots=True)
class TransactionBody:
    """Everything that is signed: who acts, in which order, what for, and the fee in atoms."""

    sender: PublicKeyField
    nonce: U64
    fee: U64
    action: Annotated[Action, Tagged()]


@dataclass(frozen=True, slots=True)
class Transaction:
    """A body and its sender's signature."""

    body: TransactionBody
    signature: SignatureField


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Block data of one contribution: the root of every op's outputs, step by step, and the quantised delta.

    `output_roots` is the concatenation of 32-byte roots, step-major, in program order; `delta` is the delta
    op's output bytes. Both are bound by the commit's trace root and delta root. Of a part of a data set they are the
    data set's root, behind it the hashes of all chunks that other parts hold, in order, and the part's bytes.
    """

    output_roots: Annotated[bytes, Bytes(32, SIDECAR_BYTES_MAX)]
    delta: Annotated[bytes, Bytes(1, SIDECAR_BYTES_MAX)]


def compute_transaction_hash(transaction: Transaction) -> Hash:
    """Return the hash that names a transaction; its signature is part of it."""
    return tagged_hash("transaction", encode(transaction))


def compute_signing_hash(chain_id: Hash, body: TransactionBody) -> Hash:
    """Return the 32 bytes that the sender signs."""
    return tagged_hash("transaction.sign", chain_id, encode(body))


def get_sidecar_hash(action: Action) -> Hash | None:
    """Return the hash of the block data that an action needs beside it, None where it needs none."""
    match action:
        case CommitContribution(sidecar_hash=name) | PostTask(data_hash=name) | AddDatasetPart(sidecar_hash=name):
            return name
    return None


def compute_sidecar_hash(sidecar: Sidecar) -> Hash:
    """Return the hash by which a commit names its block data."""
    return tagged_hash("sidecar", encode(sidecar))
