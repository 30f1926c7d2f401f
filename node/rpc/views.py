"""How the node's answers look in JSON: hashes 0x-hex, amounts decimal strings, accounts addresses, records base64.

A record that somebody may want to verify comes whole in its canonical bytes (`record`); the fields beside it are for
reading. It knows no method. Numbers are JSON integers only where 53 bits suffice.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from chain.block import Block
from chain.codec import encode
from chain.errors import MathesisError
from chain.header import Header, compute_header_hash
from chain.primitives import Hash
from chain.transaction import Transaction, compute_transaction_hash
from node.addresses import format_address
from node.rpc.api import (
    CheckpointInfo,
    ContributionInfo,
    PeerInfo,
    StatusInfo,
    SupplyInfo,
    TaskInfo,
    TransactionInfo,
)
from node.rpc.errors import from_chain_error

# `$` alone would let a trailing newline pass.
HashText = Annotated[str, Meta(pattern=r"^0x[0-9a-f]{64}(?!\n)$", description="32 bytes, 0x-hex")]
HexText = Annotated[str, Meta(pattern=r"^0x([0-9a-f]{2})*(?!\n)$", description="bytes, 0x-hex")]
Amount = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,77})(?!\n)$", description="an integer, decimal")]
Address = Annotated[str, Meta(max_length=90, description="a public key in bech32m, mth1...")]
Natural = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Record = Annotated[bytes, Meta(description="canonical bytes, base64")]


class GenesisView(msgspec.Struct, frozen=True):
    """The genesis record and the two hashes that name its network."""

    chain_id: HashText
    genesis_hash: HashText
    network: str
    record: Record


class HeaderView(msgspec.Struct, frozen=True):
    """A header; `total_work` counts expected MACs from genesis."""

    hash: HashText
    height: Natural
    parent_hash: HashText
    timestamp_ms: Natural
    target: HashText
    total_work: Amount
    miner: Address
    state_root: HashText
    record: Record


class BlockView(msgspec.Struct, frozen=True):
    """A block."""

    header: HeaderView
    transactions: list[HashText]
    record: Record


class TicketView(msgspec.Struct, frozen=True):
    """A block's ticket with the header it stands in and the strips that open it."""

    header: HeaderView
    opening: Record


class ProofView(msgspec.Struct, frozen=True):
    """Headers of one chain, proven under its tip: a `consensus.header_proof` record."""

    tip: HashText
    record: Record


class SentView(msgspec.Struct, frozen=True):
    """What became of an offered transaction: its hash, or the rule that refused it and why."""

    hash: HashText | None
    rule: str | None
    detail: str | None


class TransactionView(msgspec.Struct, frozen=True):
    """A transaction; `block_hash` and `height` are null while it waits."""

    hash: HashText
    sender: Address
    nonce: Natural
    fee: Amount
    action: str
    block_hash: HashText | None
    height: Natural | None
    record: Record


class CheckpointView(msgspec.Struct, frozen=True):
    """A round's checkpoint; the loss is summed over `total` examples in units of 2**-16."""

    round: Natural
    height: Natural
    root: HashText
    heldout_loss: Amount
    correct: Natural
    total: Natural
    contributors: Natural
    content: Record | None = None


class TaskView(msgspec.Struct, frozen=True):
    """A task and its running round; `price` is atoms for 2^40 verified MACs, `allowance` what the round may spend.

    `last_height` is null for genesis' task, which never closes.
    """

    task: HashText
    name: str
    round: Natural
    start_height: Natural
    end_height: Natural
    pot: Amount
    price: Amount
    allowance: Amount
    segment_macs: Natural
    last_height: Natural | None
    is_live: bool
    checkpoint: CheckpointView


class ContributionView(msgspec.Struct, frozen=True):
    """A contribution of one round."""

    round: Natural
    miner: Address
    index: Natural
    status: str
    anchor_height: Natural
    commit_height: Natural
    trace_root: HashText
    delta_root: HashText
    sidecar_hash: HashText
    challenge: HashText | None
    deposit: Amount
    reward: Amount
    disputes: Natural


class PeerView(msgspec.Struct, frozen=True):
    """A connected peer; `listen_port` is 0 when it does not listen, `latency_ms` null until it was measured."""

    key: Address
    address: str
    listen_port: Natural
    is_inbound: bool
    kind: str
    origin: str
    height: Natural
    score: int
    received_bytes: Natural
    sent_bytes: Natural
    latency_ms: Natural | None
    connected_ms: Natural


class SupplyView(msgspec.Struct, frozen=True):
    """Where every atom is."""

    issued: Amount
    allocated: Amount
    balances: Amount
    deposits: Amount
    bonds: Amount
    stakes: Amount
    locked: Amount
    pot: Amount
    treasury: Amount
    income: Amount
    burned: Amount


class RatesView(msgspec.Struct, frozen=True):
    """What the node's miner does a second."""

    tickets: Natural
    macs: Natural


class StatusView(msgspec.Struct, frozen=True):
    """The node at a glance; blocks are kept from height `first_block` on.

    `task` is genesis', `posted_tasks` counts the live ones beside it.
    """

    version: str
    network: str
    node: Address
    head: HeaderView
    genesis_hash: HashText
    first_block: Natural
    is_syncing: bool
    peers: Natural
    pool_transactions: Natural
    pool_size_bytes: Natural
    uptime_ms: Natural
    task: TaskView
    posted_tasks: Natural
    supply: SupplyView
    rates: RatesView | None


def to_hex(data: bytes) -> str:
    """Return 0x-hex."""
    return f"0x{data.hex()}"


def from_hex(text: str) -> Hash:
    """Return the bytes of 0x-hex that a pattern has already checked."""
    return Hash(bytes.fromhex(text[2:]))


def view_header(header: Header) -> HeaderView:
    """Return a header as JSON shows it."""
    foliage = header.foliage
    return HeaderView(
        hash=to_hex(compute_header_hash(header)),
        height=foliage.height,
        parent_hash=to_hex(foliage.parent_hash),
        timestamp_ms=foliage.timestamp_ms,
        target=to_hex(foliage.target.to_bytes(32, "big")),
        total_work=str(header.trunk.total_work),
        miner=format_address(foliage.miner),
        state_root=to_hex(foliage.state_root),
        record=encode(header),
    )


def view_block(block: Block) -> BlockView:
    """Return a block as JSON shows it."""
    hashes = [to_hex(compute_transaction_hash(transaction)) for transaction in block.transactions]
    return BlockView(header=view_header(block.header), transactions=hashes, record=encode(block))


def view_transaction(info: TransactionInfo) -> TransactionView:
    """Return a transaction as JSON shows it."""
    transaction: Transaction = info.transaction
    return TransactionView(
        hash=to_hex(compute_transaction_hash(transaction)),
        sender=format_address(transaction.body.sender),
        nonce=transaction.body.nonce,
        fee=str(transaction.body.fee),
        action=type(transaction.body.action).__name__,
        block_hash=None if info.block_hash is None else to_hex(info.block_hash),
        height=info.height,
        record=encode(transaction),
    )


def view_sent(answer: Hash | MathesisError) -> SentView:
    """Return what became of one transaction among several."""
    if not isinstance(answer, MathesisError):
        return SentView(to_hex(answer), None, None)
    data = from_chain_error(answer).data
    return SentView(None, data.rule if data else None, data.detail if data else None)


def view_checkpoint(info: CheckpointInfo, content: bytes | None = None) -> CheckpointView:
    """Return a checkpoint as JSON shows it."""
    return CheckpointView(
        round=info.round,
        height=info.height,
        root=to_hex(info.root),
        heldout_loss=str(info.heldout_loss),
        correct=info.correct,
        total=info.total,
        contributors=info.contributors,
        content=content,
    )


def view_task(info: TaskInfo) -> TaskView:
    """Return a task as JSON shows it."""
    return TaskView(
        task=to_hex(info.task),
        name=info.name,
        round=info.round,
        start_height=info.start_height,
        end_height=info.end_height,
        pot=str(info.pot),
        price=str(info.price),
        allowance=str(info.allowance),
        segment_macs=info.segment_macs,
        last_height=info.last_height,
        is_live=info.is_live,
        checkpoint=view_checkpoint(info.checkpoint),
    )


def view_contribution(info: ContributionInfo) -> ContributionView:
    """Return a contribution as JSON shows it."""
    return ContributionView(
        round=info.round,
        miner=format_address(info.miner),
        index=info.index,
        status=info.status,
        anchor_height=info.anchor_height,
        commit_height=info.commit_height,
        trace_root=to_hex(info.trace_root),
        delta_root=to_hex(info.delta_root),
        sidecar_hash=to_hex(info.sidecar_hash),
        challenge=None if info.challenge is None else to_hex(info.challenge),
        deposit=str(info.deposit),
        reward=str(info.reward),
        disputes=info.disputes,
    )


def view_peer(info: PeerInfo) -> PeerView:
    """Return a peer as JSON shows it."""
    return PeerView(
        key=format_address(info.key),
        address=info.address,
        listen_port=info.listen_port,
        is_inbound=info.is_inbound,
        kind=info.kind,
        origin=info.origin,
        height=info.height,
        score=info.score,
        received_bytes=info.received_bytes,
        sent_bytes=info.sent_bytes,
        latency_ms=info.latency_ms,
        connected_ms=info.connected_ms,
    )


def view_supply(info: SupplyInfo) -> SupplyView:
    """Return the supply as JSON shows it."""
    return SupplyView(**{name: str(getattr(info, name)) for name in SupplyView.__struct_fields__})


def view_status(info: StatusInfo, head: Header, genesis_hash: Hash, tasks: Sequence[TaskInfo]) -> StatusView:
    """Return the node at a glance as JSON shows it."""
    return StatusView(
        version=info.version,
        network=info.network,
        node=format_address(info.node),
        head=view_header(head),
        genesis_hash=to_hex(genesis_hash),
        first_block=info.first_block,
        is_syncing=info.is_syncing,
        peers=info.peers,
        pool_transactions=info.pool_transactions,
        pool_size_bytes=info.pool_size_bytes,
        uptime_ms=info.uptime_ms,
        task=view_task(tasks[0]),
        posted_tasks=len(tasks) - 1,
        supply=view_supply(info.supply),
        rates=None if info.rates is None else RatesView(info.rates.tickets, info.rates.macs),
    )
