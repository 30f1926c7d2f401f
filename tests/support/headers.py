"""Chains of headers that meet every header rule: real signatures, targets and histories over made-up digests.

A ticket's opening is another room's business, so digests here are merely small enough; one function stands for the
task's program and says how many MACs a place covers.
"""

from dataclasses import replace

from chain.errors import InvalidProof
from chain.genesis import Genesis, Parameters, TaskSpec
from chain.hashing import tagged_hash
from chain.header import Header
from chain.primitives import ZERO_HASH, Hash
from chain.signature import SigningKey
from chain.ticket import EMPTY_TICKET, Ticket
from consensus.header_chain import ChainEntry, HeaderChain, make_genesis_header
from consensus.header_rules import HeaderContent, HeaderContext, compute_round, make_header, make_header_context

KEYS = tuple(SigningKey(bytes([number]) * 32) for number in range(1, 4))
STRANGER = SigningKey(b"\x77" * 32)
START_MS = 1_700_000_000_000
NOW_MS = START_MS + 10**9
TICKET_MACS = 32 * 32 * 64
OPS = 5

GENESIS = Genesis(
    network="headers",
    timestamp_ms=START_MS,
    target=1 << 230,
    parameters=Parameters(),
    allocations=(),
    miners=tuple(key.public_key for key in KEYS),
    task=TaskSpec("task", b"program", ZERO_HASH, ZERO_HASH),
)


def ticket_macs(ticket: Ticket) -> int:
    """Return the MACs of a place of a program of `OPS` ops; raises InvalidProof."""
    if ticket.op >= OPS:
        raise InvalidProof("ticket-op", f"found op {ticket.op}, expected below {OPS}")
    return TICKET_MACS


def make_context(parameters: Parameters | None = None) -> HeaderContext:
    """Return the context of a network with three miners."""
    return make_header_context(replace(GENESIS, parameters=parameters or GENESIS.parameters), ticket_macs)


def make_chain(context: HeaderContext) -> HeaderChain:
    """Return a chain that holds genesis alone."""
    return HeaderChain(make_genesis_header(context.genesis, Hash(b"\x05" * 32)))


def make_ticket(context: HeaderContext, parent: ChainEntry, salt: int = 0) -> Ticket:
    """Return a ticket under `parent` whose digest meets any target in use here."""
    noise = tagged_hash("test", parent.hash, salt.to_bytes(8, "little"))
    return replace(
        EMPTY_TICKET,
        task=context.task_id,
        round=compute_round(context, parent.height),
        anchor_height=max(0, parent.height - 1),
        index=salt % 2,
        digest=Hash(bytes(16) + noise[:16]),
    )


def make_child(
    context: HeaderContext,
    parent: ChainEntry,
    salt: int = 0,
    delay_ms: int = 2_000,
    state_root: Hash = ZERO_HASH,
    transactions_root: Hash = ZERO_HASH,
) -> Header:
    """Return a valid header on `parent`; different `salt`s make siblings."""
    key = KEYS[salt % len(KEYS)]
    timestamp_ms = parent.header.foliage.timestamp_ms + delay_ms
    content = HeaderContent(key.public_key, timestamp_ms, state_root, transactions_root)
    return make_header(context, parent, make_ticket(context, parent, salt), content, key)


def grow(context: HeaderContext, chain: HeaderChain, parent: ChainEntry, count: int, salt: int = 0) -> ChainEntry:
    """Insert `count` more headers on `parent` and return the last."""
    for _ in range(count):
        parent = chain.insert(make_child(context, parent, salt))
    return parent
