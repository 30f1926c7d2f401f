"""One content for one ticket: asked twice, asked at once, after a kill, after the database is gone; threats 51, 59."""

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chain.block import Block
from chain.codec import decode, encode
from chain.errors import InvalidBlock, StorageError
from chain.header import Foliage, Header, Trunk, compute_header_hash, compute_trunk_hash
from chain.primitives import ZERO_HASH, Hash, PublicKey, Signature
from chain.ticket import EMPTY_TICKET, Ticket, TicketOpening
from node.outcomes import ImportResult
from node.producer import Producer
from node.rpc.client import AsyncRpcClient
from node.rpc.methods import GET_WORK
from node.rpc.registry import Params
from node.rpc.views import from_hex
from node.signing_record import KEPT_HEIGHTS, SigningRecord
from tests.support.live_node import LiveNode, find_ticket, run_live_node

KILLED_WHILE_SENDING = """
import asyncio, os, signal, sys
from pathlib import Path
from chain.header import compute_header_hash
from tests.support.live_node import run_live_node

async def main():
    async with run_live_node(Path(sys.argv[1])) as live:
        def die(packed, *_beside, **_named):
            print(compute_header_hash(packed.block.header).hex(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        live.node.parts.importer.import_block = die
        await live.mine(1)

asyncio.run(main())
"""


def make_block(height: int, salt: int = 0, time_ms: int = 0) -> Block:
    trunk = Trunk(EMPTY_TICKET, ZERO_HASH, height << 8 | salt)
    somebody = PublicKey(ZERO_HASH)
    roots = (ZERO_HASH, ZERO_HASH, compute_trunk_hash(trunk), ZERO_HASH)
    foliage = Foliage(1, height, ZERO_HASH, time_ms, 1, somebody, *roots)
    return Block(Header(trunk, foliage, Signature(bytes(64))), TicketOpening((), ()), ())


def sign(record: SigningRecord, block: Block) -> Block:
    return record.sign_once(block.header.height, compute_trunk_hash(block.header.trunk), lambda: block)


def test_the_first_content_stays(tmp_path: Path) -> None:
    first, second = make_block(5, time_ms=1), make_block(5, time_ms=2)
    record = SigningRecord(tmp_path / "signed")
    assert record.get(5, compute_trunk_hash(first.header.trunk)) is None
    assert sign(record, first) == first
    assert sign(record, second) == first
    assert sign(SigningRecord(tmp_path / "signed"), second) == first, "after a restart"
    other = make_block(5, salt=1)
    assert sign(record, other) == other, "another ticket at the same height"


def test_what_is_forgotten_is_not_signed_again(tmp_path: Path) -> None:
    record = SigningRecord(tmp_path)
    for height in range(1, 3 * KEPT_HEIGHTS):
        sign(record, make_block(height))
        assert len(list(tmp_path.iterdir())) <= KEPT_HEIGHTS + 1
    newest = 3 * KEPT_HEIGHTS - 1
    for reader in (record, SigningRecord(tmp_path)):
        assert sign(reader, make_block(newest - KEPT_HEIGHTS, time_ms=9)) == make_block(newest - KEPT_HEIGHTS)
        with pytest.raises(InvalidBlock, match="signing-height"):
            sign(reader, make_block(newest - KEPT_HEIGHTS - 1))


def test_a_record_that_cannot_be_read_or_written_stops_the_signing(tmp_path: Path) -> None:
    record = SigningRecord(tmp_path / "signed")
    sign(record, make_block(1))
    (path,) = (tmp_path / "signed").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match="cannot be read"):
        sign(record, make_block(1, time_ms=2))
    shutil.rmtree(tmp_path / "signed")
    (tmp_path / "signed").write_text("no folder")
    with pytest.raises(StorageError, match="cannot write"):
        sign(record, make_block(2))
    (tmp_path / "other").write_text("no folder")
    with pytest.raises(StorageError):
        SigningRecord(tmp_path / "other")


async def get_ticket(live: LiveNode) -> tuple[Hash, Ticket, TicketOpening]:
    async with AsyncRpcClient(live.url, live.token) as rpc:
        found = find_ticket(live.genesis, await rpc.call(GET_WORK, Params()))
    opening = decode(TicketOpening, found.opening, 256 * 1024)
    return from_hex(found.parent_hash), decode(Ticket, found.ticket, 1024), opening


async def test_two_callers_with_one_ticket_get_one_block(tmp_path: Path) -> None:
    async with run_live_node(tmp_path) as live:
        work = await get_ticket(live)
        producer = Producer(live.node.parts)
        outcomes = await asyncio.gather(*(producer.produce(*work) for _ in range(8)))
        results = [outcome.result for outcome in outcomes if outcome is not None]
        assert len(results) == 8
        assert (results.count(ImportResult.EXTENDED), results.count(ImportResult.ALREADY_KNOWN)) == (1, 7)
        assert len(live.node.parts.chain.headers) == 2


async def test_a_bad_opening_does_not_waste_the_ticket(tmp_path: Path) -> None:
    async with run_live_node(tmp_path) as live:
        parent_hash, ticket, opening = await get_ticket(live)
        producer = Producer(live.node.parts)
        bad = await producer.produce(parent_hash, ticket, TicketOpening((), ()))
        assert bad is not None
        assert bad.result is ImportResult.INVALID
        good = await producer.produce(parent_hash, ticket, opening)
        assert good is not None
        assert (good.result, good.hash) == (ImportResult.EXTENDED, bad.hash)


def lose_nothing(_: Path) -> None:
    """Leave the data directory as the kill left it."""


def lose_database(root: Path) -> None:
    shutil.rmtree(root / "database")


@pytest.mark.slow
@pytest.mark.parametrize("lose", [lose_nothing, lose_database])
async def test_a_kill_between_signing_and_sending_gives_the_same_header_again(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_SENDING, str(tmp_path)]
    child = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    lose(tmp_path)
    async with run_live_node(tmp_path) as live:
        chain = live.node.parts.chain
        assert chain.head.height == 0
        await live.mine(1)
        assert chain.head.hash.hex() == child.stdout.strip()
        block = chain.get_existing_block(chain.head.hash)
        assert compute_header_hash(decode(Block, encode(block), 2**21).header) == chain.head.hash


async def test_nothing_is_mined_on_a_head_that_others_refuse_for_its_time(tmp_path: Path) -> None:
    async with run_live_node(tmp_path) as live:
        work, parts = await get_ticket(live), live.node.parts
        timestamp_ms = parts.chain.head.header.foliage.timestamp_ms
        latest_ms = timestamp_ms - parts.chain.parameters.future_ms_max
        with pytest.raises(InvalidBlock, match="head-future"):
            await Producer(replace(parts, get_time_ms=lambda: latest_ms - 1)).produce(*work)
        assert len(live.node.parts.chain.headers) == 1
        outcome = await Producer(replace(parts, get_time_ms=lambda: latest_ms)).produce(*work)
        assert outcome is not None
        assert outcome.result is ImportResult.EXTENDED
