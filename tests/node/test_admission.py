"""Runs of headers, whose work is sampled: kept whole when all holds, else nothing of them is kept."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from chain.block import Block
from chain.codec import encode
from chain.header import Header, compute_header_hash
from chain.primitives import Hash, Signature
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import open_block_store
from chain.ticket import TicketOpening
from node.admission import NOBODY
from node.chain import Chain
from node.importer import Importer
from node.mempool import Mempool
from node.outcomes import ImportResult
from node.validator import make_ticket_verifier
from p2p.view import Outcome
from tests.support.importing import make_importer
from tests.support.live_node import LiveNode, run_live_node

BLOCKS = 6

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveNode]:
    async with run_live_node(tmp_path_factory.mktemp("node")) as node:
        await node.mine(BLOCKS)
        yield node


@pytest_asyncio.fixture(loop_scope="module")
async def follower(live: LiveNode, tmp_path: Path) -> AsyncIterator[tuple[Chain, Importer]]:
    """An empty chain that checks tickets as a node does."""
    parts = live.node.parts
    with open_block_store(tmp_path / "database") as store:
        chain = Chain(store, BlobStore(tmp_path / "blobs"), parts.chain.header_context)
        task = parts.learning.get_task(chain.header_context.genesis.task)
        verify = make_ticket_verifier(chain.header_context, task)
        yield chain, make_importer(chain, parts.learning, parts.get_time_ms, verify)


def list_blocks(live: LiveNode) -> list[Block]:
    chain = live.node.parts.chain
    return [chain.get_existing_block(chain.head.get_ancestor(height).hash) for height in range(1, BLOCKS + 1)]


def get_run(live: LiveNode, *positions: int) -> tuple[tuple[Header, ...], dict[int, TicketOpening]]:
    blocks = list_blocks(live)
    return tuple(block.header for block in blocks), {position: blocks[position].opening for position in positions}


async def test_a_run_that_shows_its_work_is_kept(live: LiveNode, follower: tuple[Chain, Importer]) -> None:
    chain, importer = follower
    headers, openings = get_run(live, 1, 4)
    outcome = await importer.import_headers(headers, openings)
    assert outcome.result is ImportResult.SIDE_BRANCH
    assert len(chain.headers) == BLOCKS + 1
    assert len(chain.get_missing_blocks(100)) == BLOCKS
    again = await importer.import_headers(headers, openings)
    assert again.result is ImportResult.ALREADY_KNOWN


async def test_openings_of_other_tickets_let_nothing_in(live: LiveNode, follower: tuple[Chain, Importer]) -> None:
    chain, importer = follower
    headers, openings = get_run(live, 1, 4)
    swapped = {1: openings[1], 4: openings[1]}
    outcome = await importer.import_headers(headers, swapped)
    assert outcome.result is ImportResult.INVALID
    assert len(chain.headers) == 1, "nothing of the run is kept"


async def test_a_broken_rule_anywhere_lets_nothing_in(live: LiveNode, follower: tuple[Chain, Importer]) -> None:
    chain, importer = follower
    headers, openings = get_run(live, 1)
    unsigned = replace(headers[3], signature=Signature(bytes(64)))
    outcome = await importer.import_headers((*headers[:3], unsigned, *headers[4:]), openings)
    assert (outcome.result, outcome.rule) == (ImportResult.INVALID, "signature")
    gap = await importer.import_headers((*headers[:2], *headers[3:]), {1: openings[1]})
    assert gap.result is ImportResult.INVALID
    assert len(chain.headers) == 1


async def test_a_run_from_nowhere_is_an_orphan(live: LiveNode, follower: tuple[Chain, Importer]) -> None:
    chain, importer = follower
    headers, openings = get_run(live, 4)
    outcome = await importer.import_headers(headers[2:], {2: openings[4]})
    assert outcome.result is ImportResult.ORPHAN
    assert len(chain.headers) == 1


async def test_headers_that_show_no_work_are_not_kept(live: LiveNode, follower: tuple[Chain, Importer]) -> None:
    chain, importer = follower
    headers, openings = get_run(live, 2)
    for count in (1, BLOCKS):
        outcome = await importer.import_headers(headers[:count])
        assert (outcome.result, outcome.rule) == (ImportResult.REFUSED, "header-work")
    assert len(chain.headers) == 1
    await importer.import_headers(headers[:3], openings)
    assert (await importer.import_headers(headers[:3])).result is ImportResult.ALREADY_KNOWN
    assert (await importer.import_headers(headers[:4])).result is ImportResult.REFUSED
    assert len(chain.headers) == 4


async def test_runs_on_an_invalid_branch_are_refused(live: LiveNode, follower: tuple[Chain, Importer]) -> None:
    chain, importer = follower
    headers, openings = get_run(live, 0, 3)
    await importer.import_headers(headers[:1], {0: openings[0]})
    entry = chain.headers.get(compute_header_hash(headers[0]))
    assert entry is not None
    chain.mark_invalid(entry)
    outcome = await importer.import_headers(headers[1:], {2: openings[3]})
    assert outcome.rule == "parent-invalid"
    outcome = await importer.import_headers(headers, openings)
    assert outcome.rule == "parent-invalid", "though the invalid block comes with them"
    assert chain.get_heaviest_header() is chain.headers.genesis


async def test_a_block_leaves_no_header_before_its_ticket_was_verified(
    live: LiveNode, follower: tuple[Chain, Importer]
) -> None:
    chain, importer = follower
    first, second = list_blocks(live)[:2]
    importer.start()
    try:
        outcome = await importer.import_block(replace(first, opening=second.opening))
        assert outcome.result is ImportResult.INVALID
        assert (len(chain.headers), chain.get_missing_blocks(1)) == (1, ())
        # Who shows the work is believed all the same.
        assert (await importer.import_block(first)).result is ImportResult.EXTENDED
    finally:
        await importer.stop()


async def test_bytes_that_are_no_opening_are_invalid(live: LiveNode, monkeypatch: pytest.MonkeyPatch) -> None:
    port = live.node.network._chain
    headers, _ = get_run(live)
    encoded = tuple(encode(header) for header in headers)
    for data in (b"", b"\xc1", bytes(300_000)):
        result = await port.submit_headers(NOBODY, encoded, ((0, data),))
        assert (result.outcome, result.rule) == (Outcome.INVALID, "decode")
    assert isinstance(live.node.parts.mempool, Mempool)
    assert live.node.parts.chain.get_missing_blocks(1) == ()
    expected = encode(list_blocks(live)[0].opening)
    # To decode a full block takes thirty milliseconds, and a peer asks for a thousand openings at once.
    monkeypatch.setattr(live.node.parts.chain.store, "get_block", lambda _hash: pytest.fail("a block was decoded"))
    assert port.get_opening_bytes(compute_header_hash(headers[0])) == expected
    assert port.get_opening_bytes(Hash(bytes(32))) is None


async def test_a_blob_whose_file_is_damaged_is_not_served(live: LiveNode) -> None:
    port, blobs, name = live.node.network._chain, live.node.parts.chain.blobs, Hash(b"\x07" * 32)
    blobs.put(name, b"data")
    assert (port.get_sidecar_bytes(name), port.get_blob_part(name, 1, 2)) == (b"data", (4, b"at"))
    blobs._path(name).write_bytes(b"rot")
    other = Hash(b"\x08" * 32)
    blobs.put(other, b"other")
    blobs._path(other).write_bytes(b"rot")
    assert (port.get_sidecar_bytes(name), port.get_blob_part(other, 0, 5)) == (None, None)
