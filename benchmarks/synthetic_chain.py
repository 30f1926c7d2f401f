"""A long chain of headers that keep every header rule: real signatures, targets, times and histories.

Tickets are stubs: their digests lie below the threshold, but no matmul stands behind them. Times come from a seeded
exponential clock, so difficulty moves as on a network of steady power.
"""

from dataclasses import replace

import numpy as np

from chain.genesis import Genesis, Parameters, TaskSpec
from chain.hashing import tagged_hash
from chain.primitives import ZERO_HASH, Hash
from chain.signature import SigningKey
from chain.ticket import EMPTY_TICKET, Ticket
from consensus.header_chain import ChainEntry, make_entry, make_first_entry, make_genesis_header
from consensus.header_rules import (
    HeaderContent,
    HeaderContext,
    compute_round,
    compute_timestamp_min,
    make_header,
    make_header_context,
)
from consensus.history import History

START_MS = 1_700_000_000_000
INTERVAL_MS = 60_000
HALF_LIFE_INTERVALS = 288
TICKET_MACS = 32 * 32 * 1_024
KEYS = tuple(SigningKey(bytes([number]) * 32) for number in range(1, 9))


def make_context() -> HeaderContext:
    """Return the context of a network with a block a minute and a half-life of 288 blocks."""
    genesis = Genesis(
        network="synthetic",
        timestamp_ms=START_MS,
        target=1 << 200,
        parameters=Parameters(interval_ms=INTERVAL_MS, half_life_ms=INTERVAL_MS * HALF_LIFE_INTERVALS),
        allocations=(),
        miners=tuple(key.public_key for key in KEYS),
        task=TaskSpec("task", b"program", ZERO_HASH, ZERO_HASH),
    )
    return make_header_context(genesis, lambda _: TICKET_MACS)


def make_genesis_entry(context: HeaderContext) -> ChainEntry:
    """Return block 0."""
    return make_first_entry(make_genesis_header(context.genesis, ZERO_HASH), History())


def grow(context: HeaderContext, entry: ChainEntry, count: int) -> ChainEntry:
    """Return the tip of `count` more blocks."""
    delays_ms = np.random.default_rng(entry.height + 1).exponential(INTERVAL_MS, count).astype(np.int64)
    for delay_ms in map(int, delays_ms):
        key = KEYS[entry.hash[0] % len(KEYS)]
        timestamp_ms = max(entry.header.foliage.timestamp_ms + delay_ms, compute_timestamp_min(context, entry))
        content = HeaderContent(key.public_key, timestamp_ms, entry.hash, ZERO_HASH)
        entry = make_entry(make_header(context, entry, _make_stub(context, entry), content, key), entry)
    return entry


def _make_stub(context: HeaderContext, parent: ChainEntry) -> Ticket:
    noise = tagged_hash("synthetic.ticket", parent.hash)
    return replace(
        EMPTY_TICKET,
        task=context.task_id,
        round=compute_round(context, parent.height),
        anchor_height=max(0, parent.height - 1),
        step=noise[0] % 64,
        tile_row=noise[1],
        tile_column=noise[2],
        root_a=tagged_hash("synthetic.a", parent.hash),
        root_b=tagged_hash("synthetic.b", parent.hash),
        # Any target in use here is met by a digest that starts with eight zero bytes.
        digest=Hash(bytes(8) + noise[:24]),
    )
