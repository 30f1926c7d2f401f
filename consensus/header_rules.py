"""The rules of a header, cheapest first, the signature at the end; and what a winner must write to meet them.

Given a header and its parent's entry, everything but the ticket's opening and the block's content is decided here; what
the history before a header decides alone holds for headers without their parent too. It knows neither clock (the time
is handed in) nor operand (a function tells how many MACs a ticket's place covers). A rule's slug is part of the
interface: `future` alone may pass later, and it is checked last: nothing else is wrong then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chain.errors import InvalidBlock, InvalidProof
from chain.genesis import Genesis, compute_chain_id, compute_segment_seed, compute_task_id
from chain.header import (
    HEADER_VERSION,
    Foliage,
    Header,
    Trunk,
    compute_beacon,
    compute_signing_hash,
    compute_trunk_hash,
)
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey, verify_signature
from chain.ticket import Ticket
from consensus.asert import compute_target, compute_threshold, compute_work
from consensus.header_chain import ChainEntry, get_median_timestamp, make_entry
from consensus.history import History

TicketMacs = Callable[[Ticket], int]
"""MACs that the ticket's place covers; raises InvalidProof when the task's program has no such place."""


Spread = Callable[[Callable[[int, int], None], int], None]
"""Runs a work over ranges that cover [0, n), perhaps side by side, and raises what a range raises."""


@dataclass(frozen=True, slots=True)
class HeaderContext:
    """What one network's header rules need to know beside the chain itself; see `make_header_context`."""

    genesis: Genesis
    chain_id: Hash
    task_id: Hash
    ticket_macs: TicketMacs


def make_header_context(genesis: Genesis, ticket_macs: TicketMacs) -> HeaderContext:
    """Return the context of a network."""
    chain_id = compute_chain_id(genesis)
    return HeaderContext(genesis, chain_id, compute_task_id(chain_id, genesis.task), ticket_macs)


def compute_next_target(context: HeaderContext, parent: ChainEntry) -> int:
    """Return the target of a child of `parent`."""
    return compute_target_after(context, parent.height, parent.header.foliage.timestamp_ms)


def compute_target_after(context: HeaderContext, height: int, timestamp_ms: int) -> int:
    """Return the target of a child of a block of that height and time; nothing else but genesis decides it."""
    genesis = context.genesis
    interval_ms, half_life_ms = genesis.parameters.interval_ms, genesis.parameters.half_life_ms
    return compute_target(genesis.target, timestamp_ms - genesis.timestamp_ms, height, interval_ms, half_life_ms)


def compute_round(context: HeaderContext, parent_height: int) -> int:
    """Return the round whose tickets count for a child of a block at `parent_height`."""
    return parent_height // context.genesis.parameters.round_blocks


def compute_round_start(context: HeaderContext, round_number: int) -> int:
    """Return the height of the block that starts a round: the one that settles the round before."""
    return round_number * context.genesis.parameters.round_blocks


def compute_lead_in(context: HeaderContext) -> int:
    """Return how many headers must stand before one so that it finds its median time and its ticket's anchor."""
    parameters = context.genesis.parameters
    return max(parameters.median_span, parameters.anchor_window + 1)


def get_segment_seed(context: HeaderContext, parent: ChainEntry, ticket: Ticket, miner: PublicKey) -> Hash:
    """Return the seed of the segment that a ticket under `parent` names; its anchor must have been validated."""
    anchor = parent.get_ancestor(ticket.anchor_height)
    return compute_segment_seed(context.chain_id, ticket.task, ticket.round, anchor.beacon, miner, ticket.index)


def make_trunk(context: HeaderContext, parent: ChainEntry, ticket: Ticket) -> Trunk:
    """Return the trunk that a winning ticket under `parent` earns."""
    work = compute_work(compute_next_target(context, parent))
    return Trunk(ticket, compute_beacon(parent.beacon, ticket.digest), parent.total_work + work)


@dataclass(frozen=True, slots=True)
class HeaderContent:
    """What the miner alone decides about a header."""

    miner: PublicKey
    timestamp_ms: int
    state_root: Hash
    transactions_root: Hash


def compute_timestamp_min(context: HeaderContext, parent: ChainEntry) -> int:
    """Return the earliest timestamp (ms) that a child of `parent` may carry."""
    return get_median_timestamp(parent, context.genesis.parameters.median_span) + 1


def make_header(
    context: HeaderContext, parent: ChainEntry, ticket: Ticket, content: HeaderContent, key: SigningKey
) -> Header:
    """Return the signed header of a winning ticket under `parent`."""
    assert key.public_key == content.miner
    trunk = make_trunk(context, parent, ticket)
    foliage = Foliage(
        version=HEADER_VERSION,
        height=parent.height + 1,
        parent_hash=parent.hash,
        timestamp_ms=content.timestamp_ms,
        target=compute_next_target(context, parent),
        miner=content.miner,
        state_root=content.state_root,
        transactions_root=content.transactions_root,
        trunk_hash=compute_trunk_hash(trunk),
        history_root=parent.history.compute_root(),
    )
    return Header(trunk, foliage, key.sign(compute_signing_hash(context.chain_id, foliage)))


def validate_header(context: HeaderContext, header: Header, parent: ChainEntry, now_ms: int) -> None:
    """Check every rule that needs no operand and no body; raises InvalidBlock with the rule's slug.

    The ticket's digest is held against the threshold here; that it is the digest of real work is
    `consensus.ticket.verify_ticket`'s to say.
    """
    validate_unsigned(context, header, parent)
    validate_signature(context, header)
    validate_time(context, header, now_ms)


def validate_headers(
    context: HeaderContext, headers: Sequence[Header], parent: ChainEntry, now_ms: int, spread: Spread
) -> ChainEntry:
    """Check a run of headers on `parent` and return the last one's entry; raises InvalidBlock.

    The rule is that of the first header at fault, as if each were checked by itself; the clock comes last, as ever.
    Signatures are verified in ranges, because threads can do so side by side.
    """
    messages, fault = [], None
    for header in headers:
        try:
            validate_unsigned(context, header, parent)
        except InvalidBlock as error:
            # What is wrong may follow from a header before, whose signature alone shows that it was altered.
            fault = error
            break
        parent = make_entry(header, parent)
        messages.append(compute_signing_hash(context.chain_id, header.foliage))

    def validate_signatures(start: int, stop: int) -> None:
        for header, message in zip(headers[start:stop], messages[start:stop], strict=True):
            _validate_signature(header, message)

    if messages:
        spread(validate_signatures, len(messages))
    if fault is not None:
        raise fault
    for header in headers:
        validate_time(context, header, now_ms)
    return parent


def validate_unsigned(context: HeaderContext, header: Header, parent: ChainEntry) -> None:
    """Check the rules of `validate_header` but for signature and clock; raises InvalidBlock."""
    foliage, height = header.foliage, parent.height
    _validate_place(header, height)
    _expect("parent", foliage.parent_hash, parent.hash)
    earliest_ms = compute_timestamp_min(context, parent)
    if foliage.timestamp_ms < earliest_ms:
        raise InvalidBlock("time", f"found timestamp {foliage.timestamp_ms} ms, expected at least {earliest_ms}")
    _validate_earned(context, header, parent.history)
    _expect("beacon", header.trunk.beacon, compute_beacon(parent.beacon, header.trunk.ticket.digest))


def validate_by_history(context: HeaderContext, header: Header, history: History) -> None:
    """Check the rules that the history before a header decides, its parent's header unseen; raises InvalidBlock.

    Left out are `parent` (the history's root binds the parent instead), `time`, `beacon`, `signature` and `future`.
    """
    _validate_place(header, history.count - 1)
    _validate_earned(context, header, history)


def validate_signature(context: HeaderContext, header: Header) -> None:
    """Check that the miner signed the foliage; raises InvalidBlock."""
    _validate_signature(header, compute_signing_hash(context.chain_id, header.foliage))


def _validate_signature(header: Header, message: bytes) -> None:
    if not verify_signature(header.foliage.miner, message, header.signature):
        raise InvalidBlock("signature", f"found one that {header.foliage.miner.hex()} did not make of this header")


def validate_time(context: HeaderContext, header: Header, now_ms: int) -> None:
    """Check that the header is not too far ahead of the validator's clock; raises InvalidBlock."""
    latest_ms = now_ms + context.genesis.parameters.future_ms_max
    if header.foliage.timestamp_ms > latest_ms:
        raise InvalidBlock("future", f"found timestamp {header.foliage.timestamp_ms} ms, expected at most {latest_ms}")


def _expect(rule: str, found: object, expected: object) -> None:
    if found != expected:
        raise InvalidBlock(rule, f"found {_show(found)}, expected {_show(expected)}")


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _validate_place(header: Header, parent_height: int) -> None:
    _expect("version", header.foliage.version, HEADER_VERSION)
    _expect("height", header.foliage.height, parent_height + 1)


def _validate_earned(context: HeaderContext, header: Header, history: History) -> None:
    """Check target, ticket, work and roots; the last leaf of `history` is the parent, and its sums are the parent's."""
    parent_height = history.count - 1
    _expect("target", header.foliage.target, compute_target_after(context, parent_height, history.last_timestamp_ms))
    _validate_segment(context, header, parent_height)
    _validate_trunk(context, header, history.work)
    _expect("history", header.foliage.history_root, history.compute_root())


def _validate_segment(context: HeaderContext, header: Header, parent_height: int) -> None:
    ticket, parameters = header.trunk.ticket, context.genesis.parameters
    _expect("task", ticket.task, context.task_id)
    _expect("round", ticket.round, compute_round(context, parent_height))
    if ticket.index >= parameters.segments_per_round:
        raise InvalidBlock("index", f"found segment {ticket.index}, expected below {parameters.segments_per_round}")
    # Nothing stands before genesis, so its own beacon anchors tickets under it too.
    latest = max(0, parent_height - 1)
    earliest = max(0, compute_round_start(context, ticket.round) - 1, parent_height - parameters.anchor_window)
    if not earliest <= ticket.anchor_height <= latest:
        raise InvalidBlock("anchor", f"found anchor {ticket.anchor_height}, expected {earliest} to {latest}")


def _validate_trunk(context: HeaderContext, header: Header, parent_work: int) -> None:
    trunk, foliage = header.trunk, header.foliage
    _expect("work", trunk.total_work, parent_work + compute_work(foliage.target))
    try:
        macs = context.ticket_macs(trunk.ticket)
    except InvalidProof as error:
        raise InvalidBlock(error.rule, f"the ticket names an impossible place: {error}") from None
    threshold = compute_threshold(foliage.target, macs)
    if int.from_bytes(trunk.ticket.digest, "big") >= threshold:
        raise InvalidBlock("digest", f"found {trunk.ticket.digest.hex()}, expected below {threshold:064x}")
    _expect("trunk", foliage.trunk_hash, compute_trunk_hash(trunk))
