"""`mathesis db` on a real node's directory: all is verified, goes out and comes back, and no altered byte gets in."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import plyvel
import pytest
import pytest_asyncio

from chain.codec import encode
from chain.genesis import compute_chain_id, compute_segment_seed
from chain.hashing import sha256
from chain.storage.block_store import open_block_store
from ml.backends import get_backend
from ml.checkpoint import compute_initial_checkpoint
from ml.segment import Runner
from node.addresses import parse_address
from node.cli.main import main
from node.data_directory import DataDirectory
from node.exit_codes import ExitCode
from node.keystore import write_key
from node.learning import load_task
from node.miner.plan import SegmentPlan
from node.miner.segment import train_segment
from node.rpc.client import AsyncRpcClient
from node.rpc.methods import GET_WORK, SUBMIT_SEGMENT, SegmentParams
from node.rpc.registry import Params
from node.rpc.views import from_hex, to_hex
from tests.support.live_node import MINER, LiveNode, run_live_node

BLOCKS = 5


async def commit_segment(live: LiveNode) -> None:
    """Train a segment and commit it, so that the chain has block data."""
    async with AsyncRpcClient(live.url, live.token) as rpc:
        work = await rpc.call(GET_WORK, Params())
        task, plan, anchor = load_task(live.genesis.task), SegmentPlan(0, 0, 0), work.anchors[0]
        assert anchor.height == 0
        chain_id, miner = compute_chain_id(live.genesis), parse_address(work.miner)
        seed = compute_segment_seed(chain_id, from_hex(work.task.task), 0, from_hex(anchor.beacon), miner, 0)
        checkpoint = compute_initial_checkpoint(task.program)
        segment = train_segment(Runner(task.program, get_backend("cpu"), task.dataset, seed, checkpoint), plan)
        roots = (to_hex(segment.trace_root), to_hex(segment.delta_root))
        params = SegmentParams(work.task.task, 0, 0, 0, to_hex(seed), *roots, encode(segment.sidecar))
        await rpc.call(SUBMIT_SEGMENT, params)


@dataclass(frozen=True)
class Stopped:
    """A stopped node's directory and what it held."""

    root: Path
    head: str
    blobs: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stopped(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    root = tmp_path_factory.mktemp("db") / "node"
    async with run_live_node(root) as live:
        await live.mine(1)
        await commit_segment(live)
        await live.mine(BLOCKS - 1)
        head = to_hex(live.node.parts.chain.head.hash)
    blobs = len([path for path in (root / "blobs").rglob("*") if path.is_file()])
    assert blobs == 2, "a checkpoint and a sidecar"
    return Stopped(root, head, blobs)


@dataclass(frozen=True)
class Answer:
    code: int
    record: dict[str, object]
    error: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def call(*arguments: object) -> Answer:
        code = main(["db", *map(str, arguments), "--json"])
        out, error = capsys.readouterr()
        return Answer(code, json.loads(out) if out.strip() else {}, error)

    return call


def test_verify_counts_what_is_there(stopped: Stopped, run: Callable[..., Answer]) -> None:
    answer = run("verify", "--dir", stopped.root)
    assert answer.code == ExitCode.OK, answer.error
    found = answer.record
    assert (found["height"], found["headers"], found["blocks"], found["head"]) == (5, 6, 5, stopped.head)
    assert (found["transactions"], found["blobs"]) == (1, 2)
    assert found["state_leaves"] > 5  # type: ignore[operator]
    quick = run("verify", "--dir", stopped.root, "--quick")
    assert quick.record == {"height": 5, "head": stopped.head}


def seal(key: bytes, value: bytes) -> bytes:
    return crc32(value, crc32(key)).to_bytes(4, "little") + value


def drop_node(database: plyvel.DB) -> None:
    tip_nodes = [key for key, _ in database.iterator(prefix=b"s")]
    stale = b"".join(value[4:] for _, value in database.iterator(prefix=b"p"))
    database.delete(next(key for key in tip_nodes if key[1:] not in stale))


def add_node(database: plyvel.DB) -> None:
    data = b"\x01" + bytes(64)
    key = b"s" + sha256(data)
    database.put(key, seal(key, data))


def drop_index(database: plyvel.DB) -> None:
    database.delete(next(key for key, _ in database.iterator(prefix=b"t") if len(key) == 33))


def add_index(database: plyvel.DB) -> None:
    key = b"t" + bytes(32)
    database.put(key, seal(key, bytes(32)))


@pytest.mark.parametrize("damage", [drop_node, add_node, drop_index, add_index])
def test_verify_finds_what_a_start_does_not(
    stopped: Stopped, tmp_path: Path, run: Callable[..., Answer], damage: Callable[[plyvel.DB], None]
) -> None:
    shutil.copytree(stopped.root, tmp_path / "node")
    database = plyvel.DB(str(tmp_path / "node" / "database"))
    damage(database)
    database.close()
    answer = run("verify", "--dir", tmp_path / "node")
    assert answer.code in (ExitCode.CORRUPT_DATABASE, ExitCode.FAILURE)
    assert any(word in answer.error for word in ("missing", "lost", "left over", "index")), answer.error


def test_verify_finds_damaged_and_missing_blobs(stopped: Stopped, tmp_path: Path, run: Callable[..., Answer]) -> None:
    for number, path in enumerate(sorted(path for path in (stopped.root / "blobs").rglob("*") if path.is_file())):
        copy = tmp_path / str(number)
        shutil.copytree(stopped.root, copy)
        blob = copy / path.relative_to(stopped.root)
        data = blob.read_bytes()
        blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert "damaged" in run("verify", "--dir", copy).error
        blob.unlink()
        assert "gone" in run("verify", "--dir", copy).error


def test_a_chain_goes_out_and_comes_back(stopped: Stopped, tmp_path: Path, run: Callable[..., Answer]) -> None:
    out = run("export", tmp_path / "out", "--dir", stopped.root)
    assert (out.code, out.record["kind"], out.record["head"]) == (ExitCode.OK, "chain", stopped.head), out.error
    back = run("import", tmp_path / "out", "--dir", tmp_path / "back")
    assert back.code == ExitCode.OK, back.error
    found, expected = (run("verify", "--dir", root).record for root in (tmp_path / "back", stopped.root))
    assert found == expected
    again = run("import", tmp_path / "out", "--dir", tmp_path / "back")
    assert again.code == ExitCode.OK, "an import that was cut off goes on, a whole one has nothing to do"
    into_full = run("export", tmp_path / "out", "--dir", stopped.root)
    assert into_full.code == ExitCode.VERIFICATION_REFUSED


async def test_a_state_goes_out_and_a_node_goes_on_from_it(
    stopped: Stopped, tmp_path: Path, run: Callable[..., Answer]
) -> None:
    out = run("export", tmp_path / "out", "--dir", stopped.root, "--state", "--height", 3)
    assert out.record["height"] == 3, out.error
    untold = run("import", tmp_path / "out", "--dir", tmp_path / "back")
    assert (untold.code, str(out.record["head"]) in untold.error) == (ExitCode.USAGE, True)
    wrong = run("import", tmp_path / "out", "--dir", tmp_path / "back", "--trust", stopped.head)
    assert wrong.code == ExitCode.VERIFICATION_REFUSED
    back = run("import", tmp_path / "out", "--dir", tmp_path / "back", "--trust", out.record["head"])
    assert back.code == ExitCode.OK, back.error
    verified = run("verify", "--dir", tmp_path / "back")
    assert (verified.code, verified.record["height"], verified.record["blocks"]) == (ExitCode.OK, 3, 0)
    refused = run("export", tmp_path / "chain", "--dir", tmp_path / "back")
    assert "export the state instead" in refused.error
    async with run_live_node(tmp_path / "back") as live:
        chain = live.node.parts.chain
        with open_block_store(stopped.root / "database") as store:
            for height in (4, 5):
                block = store.get_block(store.get_hash_at_height(height) or b"")  # type: ignore[arg-type]
                assert block is not None
                assert (await live.node.parts.importer.import_block(block)).result.name == "EXTENDED"
        assert to_hex(chain.head.hash) == stopped.head, "the blocks behind the state lead to the same head"
        assert not chain.store.is_state_kept(2)
        await live.mine(5)
    assert run("verify", "--dir", tmp_path / "back").record["height"] == 10


@pytest.mark.parametrize("flags", [(), ("--state",)], ids=["chain", "state"])
def test_no_altered_file_is_imported_and_nothing_is_left(
    stopped: Stopped, tmp_path: Path, run: Callable[..., Answer], flags: tuple[str, ...]
) -> None:
    assert run("export", tmp_path / "out", "--dir", stopped.root, *flags).code == ExitCode.OK
    trust = ("--trust", stopped.head) if flags else ()
    for path in sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        data = path.read_bytes()
        for altered in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), data + b"\x00", b""):
            path.write_bytes(altered)
            answer = run("import", tmp_path / "out", "--dir", tmp_path / "back", *trust)
            assert answer.code == ExitCode.VERIFICATION_REFUSED, (path, answer.error)
            assert "\n" not in answer.error.strip()
            assert not (tmp_path / "back").exists(), "refused before anything is written"
        path.unlink()
        assert run("import", tmp_path / "out", "--dir", tmp_path / "back", *trust).code == ExitCode.VERIFICATION_REFUSED
        path.write_bytes(data)
    assert run("import", tmp_path / "out", "--dir", tmp_path / "back", *trust).code == ExitCode.OK


def test_a_state_import_that_was_cut_off_goes_on_and_no_node_starts_on_it(
    stopped: Stopped, tmp_path: Path, run: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("export", tmp_path / "out", "--dir", stopped.root, "--state").code == ExitCode.OK
    from chain.storage.snapshot_import import SnapshotImport

    with monkeypatch.context() as patch:
        patch.setattr(SnapshotImport, "finish", lambda *_: (_ for _ in ()).throw(MemoryError("cut off")))
        assert run("import", tmp_path / "out", "--dir", tmp_path / "back", "--trust", stopped.head).code != ExitCode.OK
    half = run("verify", "--dir", tmp_path / "back")
    assert half.code == ExitCode.CORRUPT_DATABASE
    assert "found no" in half.error or "found network none" in half.error
    assert run("import", tmp_path / "out", "--dir", tmp_path / "back", "--trust", stopped.head).code == ExitCode.OK
    assert run("verify", "--dir", tmp_path / "back").record["head"] == stopped.head
    into_full = run("import", tmp_path / "out", "--dir", stopped.root, "--trust", stopped.head)
    assert "expected none to import into" in into_full.error


def test_a_directory_in_use_or_without_a_network_is_refused(
    stopped: Stopped, tmp_path: Path, run: Callable[..., Answer]
) -> None:
    from node.database.opening import hold_directory

    with hold_directory(DataDirectory(stopped.root)):
        assert run("verify", "--dir", stopped.root).code == ExitCode.DIRECTORY_IN_USE
    (tmp_path / "empty").mkdir()
    write_key(tmp_path / "empty" / "node-key.json", MINER, "", is_development=True)
    assert "holds no genesis.bin" in run("verify", "--dir", tmp_path / "empty").error
    assert run("export", tmp_path / "out", "--dir", stopped.root, "--height", 3).code == ExitCode.USAGE
    assert run("export", tmp_path / "out", "--dir", stopped.root, "--state", "--height", 9).code == ExitCode.USAGE
