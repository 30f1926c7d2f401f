"""`mathesis db prune` on a real directory: old blocks and their data go, what is needed stays, the node goes on.

Chains here are short; how many blocks a reorganisation may take back is set to one.
"""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from chain.block import Block
from chain.errors import StorageError
from chain.primitives import Hash
from chain.storage.blob_store import BlobStore
from node.chain import Chain
from node.cli.main import main
from node.data_directory import DataDirectory
from node.database import pruning
from node.database.checking import verify_database
from node.database.export_folder import ExportRefused
from node.database.exporting import export_chain
from node.database.opening import open_chain
from node.database.pruning import Pruned, prune_blocks, release_room
from node.exit_codes import ExitCode
from node.rpc.client import AsyncRpcClient, RemoteError
from node.rpc.methods import GET_BLOCK, GET_HEADERS, GET_STATUS, BlockParams, HeadersParams
from node.rpc.registry import Params
from tests.node.test_database_command import commit_segment
from tests.support.live_node import run_live_node

BLOCKS, KEPT = 14, 3
"""A round and some more, so that what was committed in the first one is needed no longer."""


def be_silent(_what: str, _done: int, _whole: int) -> None:
    """Take a progress that nobody looks at."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    root = tmp_path_factory.mktemp("made") / "node"
    async with run_live_node(root) as live:
        await live.mine(1)
        await commit_segment(live)
        await live.mine(BLOCKS - 1)
    yield root


@pytest.fixture
def directory(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataDirectory:
    """A copy, whose chain may be pruned although a reorganisation could take all of it back."""
    monkeypatch.setattr(pruning, "REORG_BLOCKS", 1)
    shutil.copytree(made, tmp_path / "node")
    return DataDirectory(tmp_path / "node")


def list_sidecars(directory: DataDirectory) -> list[Hash]:
    with open_chain(directory) as opened:
        names = list(opened.chain.blobs.iter_names())
        checkpoint = opened.chain.header_context.genesis.task.checkpoint_root
        return [name for name in names if name != checkpoint]


def list_blocks(chain: Chain) -> list[Block]:
    return [chain.get_existing_block(chain.head.get_ancestor(height).hash) for height in range(1, BLOCKS + 1)]


def prune(directory: DataDirectory, kept: int = KEPT) -> Pruned:
    with open_chain(directory) as opened:
        pruned = prune_blocks(opened.chain, kept, be_silent)
    release_room(directory)
    return pruned


async def test_old_blocks_go_with_their_data_and_the_node_goes_on(directory: DataDirectory) -> None:
    assert len(list_sidecars(directory)) == 1
    assert prune(directory) == Pruned(BLOCKS - KEPT, 1, BLOCKS - KEPT + 1)
    assert list_sidecars(directory) == []
    with open_chain(directory) as opened:
        found = verify_database(opened, be_silent)
        assert (found.height, found.headers, found.blocks, found.transactions) == (BLOCKS, BLOCKS + 1, KEPT, 0)
        with pytest.raises(ExportRefused, match="export the state instead"):
            export_chain(opened.chain, directory.root / "out", be_silent)
    async with run_live_node(directory.root) as live, AsyncRpcClient(live.url) as rpc:
        await live.mine(4)
        assert (await rpc.call(GET_STATUS, Params())).first_block == BLOCKS - KEPT + 1
        headers = await rpc.call(GET_HEADERS, HeadersParams(1, BLOCKS))
        assert len(headers) == BLOCKS, "headers stay"
        assert (await rpc.call(GET_BLOCK, BlockParams(BLOCKS - KEPT + 1))).header.height == BLOCKS - KEPT + 1
        with pytest.raises(RemoteError, match="block"):
            await rpc.call(GET_BLOCK, BlockParams(BLOCKS - KEPT))
    assert prune(directory) == Pruned(4, 0, BLOCKS - KEPT + 5), "only what has become old since"
    assert prune(directory) == Pruned(0, 0, BLOCKS - KEPT + 5)


def test_what_the_state_or_a_kept_block_names_stays(directory: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    (sidecar,) = list_sidecars(directory)
    with monkeypatch.context() as patch:
        patch.setattr(pruning, "get_needed_blobs", lambda _context, _view: (sidecar,))
        assert prune(directory).blobs == 0
    assert list_sidecars(directory) == [sidecar]
    assert prune(directory, BLOCKS).blocks == 0


def test_what_a_reorganisation_may_settle_again_stays(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round of the commit is over at the head, and not in the oldest state that can be gone back to."""
    monkeypatch.setattr(pruning, "REORG_BLOCKS", BLOCKS - 3)
    assert prune(directory) == Pruned(3, 0, 4)
    assert len(list_sidecars(directory)) == 1


def test_data_go_with_their_block_and_no_earlier(directory: DataDirectory) -> None:
    (sidecar,) = list_sidecars(directory)
    with open_chain(directory) as opened:
        (height,) = (block.header.height for block in list_blocks(opened.chain) if block.transactions)
        kept = BLOCKS - height
        assert prune_blocks(opened.chain, kept + 1, be_silent).blobs == 0
        assert opened.chain.has_sidecar(sidecar)
        assert prune_blocks(opened.chain, kept, be_silent) == Pruned(1, 1, height + 1)


def test_a_death_between_blocks_and_their_files_leaves_a_whole_database(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_blobs: BlobStore, name: Hash) -> None:
        raise StorageError(f"cannot delete {name.hex()}")

    with monkeypatch.context() as patch:
        patch.setattr(BlobStore, "delete", die)
        with pytest.raises(StorageError, match="cannot delete"):
            prune(directory)
    with open_chain(directory) as opened:
        assert verify_database(opened, be_silent).blocks == KEPT
    assert prune(directory) == Pruned(0, 0, BLOCKS - KEPT + 1)


def test_a_block_beside_the_head_keeps_its_data(directory: DataDirectory) -> None:
    (sidecar,) = list_sidecars(directory)
    with open_chain(directory) as opened:
        chain = opened.chain
        (named,) = (block for block in list_blocks(chain) if block.transactions)
        left = chain.head
        chain.head = chain.head.get_ancestor(BLOCKS - 1)
        chain.store.put_block(left.hash, named)
        assert prune_blocks(chain, KEPT, be_silent).blobs == 0
        assert chain.has_sidecar(sidecar)


def test_the_command_keeps_what_may_be_taken_back(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["db", "prune", "--dir", str(made), "--json"]) == ExitCode.OK
    assert capsys.readouterr().out.strip() == '{"blocks": 0, "blobs": 0, "first_block": 1}'
    assert main(["db", "prune", "--dir", str(made), "--keep", "287"]) == ExitCode.USAGE
    assert main(["db", "prune", "--dir", str(made / "none")]) != ExitCode.OK
