"""A heavier branch that forks off deeper than states are kept is refused by name, kept as it is, and marked nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from chain.block import Block
from chain.header import Header, compute_header_hash, compute_signing_hash
from chain.storage.blob_store import BlobStore
from chain.storage.block_store import BlockStore
from chain.storage.leveldb import LevelDb
from node.chain import Chain
from node.outcomes import ImportResult
from tests.support.importing import make_importer
from tests.support.live_node import MINER, LiveNode, run_live_node


def sign_again(live: LiveNode, block: Block) -> Block:
    """Return the same ticket's block at another time."""
    foliage = replace(block.header.foliage, timestamp_ms=block.header.foliage.timestamp_ms + 1)
    signature = MINER.sign(compute_signing_hash(live.node.parts.chain.header_context.chain_id, foliage))
    return replace(block, header=Header(block.header.trunk, foliage, signature))


@pytest.mark.parametrize(("kept_states", "result"), [(0, ImportResult.TOO_DEEP), (1, ImportResult.REORGED)])
async def test_a_fork_below_the_kept_states_is_too_deep(tmp_path: Path, kept_states: int, result: ImportResult) -> None:
    async with run_live_node(tmp_path / "live") as live:
        await live.mine(2)
        parts = live.node.parts
        blocks = [parts.chain.get_existing_block(parts.chain.head.get_ancestor(height).hash) for height in (1, 2)]
        other = sign_again(live, blocks[0])
        with BlockStore(LevelDb(tmp_path / "database"), kept_states) as store:
            chain = Chain(store, BlobStore(tmp_path / "blobs"), parts.chain.header_context)
            importer = make_importer(chain, parts.learning, parts.get_time_ms)
            importer.start()
            assert (await importer.import_block(other)).result is ImportResult.EXTENDED
            await importer.import_block(blocks[0])
            outcome = await importer.import_block(blocks[1])
            await importer.stop()
            assert outcome.result is result
            assert chain.has_body(outcome.hash)
            assert not chain.marks.is_poisoned(outcome.hash)
            if result is ImportResult.TOO_DEEP:
                assert outcome.rule == "reorg-depth"
                assert "found a fork 1 blocks below" in outcome.message
                assert chain.head.hash == compute_header_hash(other.header), "the head stays"
