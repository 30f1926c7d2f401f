"""Forks whose blocks hold tickets that were never won: every other rule is kept, as an able liar would keep it."""

from dataclasses import replace

from chain.header import Header
from chain.primitives import ZERO_HASH, Hash
from consensus.header_chain import ChainEntry, HeaderChain
from consensus.header_rules import HeaderContent, HeaderContext, make_header
from tests.support.headers import KEYS, grow, make_ticket

UNEARNED = Hash(b"\xff" * 32)
"""A digest above any threshold: what no work stands behind."""


def make_unearned(context: HeaderContext, parent: ChainEntry, delay_ms: int = 2_000) -> Header:
    """Return a signed header on `parent` whose ticket's digest is above its threshold."""
    timestamp_ms = parent.header.foliage.timestamp_ms + delay_ms
    ticket = replace(make_ticket(context, parent), digest=UNEARNED)
    return make_header(
        context, parent, ticket, HeaderContent(KEYS[0].public_key, timestamp_ms, ZERO_HASH, ZERO_HASH), KEYS[0]
    )


def grow_fork(context: HeaderContext, chain: HeaderChain, parent: ChainEntry, unearned: int, earned: int) -> ChainEntry:
    """Insert blocks without work on `parent`, then blocks that look earned; return the tip."""
    for _ in range(unearned):
        parent = chain.insert(make_unearned(context, parent))
    return grow(context, chain, parent, earned)
