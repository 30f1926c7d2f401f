"""A node as a process serves it: what holds while it runs, and that a signal ends it."""

import asyncio
import gc
import os
import signal
from pathlib import Path

from node import run
from node.data_directory import DataDirectory
from node.options import Endpoint, NodeOptions
from tests.support.live_node import MINER, make_genesis


async def test_what_was_loaded_is_no_work_for_the_garbage_collector(tmp_path: Path) -> None:
    """A full round over all that a node imports takes tens of milliseconds, in which it would answer nobody."""
    directory = DataDirectory(tmp_path)
    directory.create()
    directory.write_genesis(make_genesis())
    options = NodeOptions(tmp_path, p2p=Endpoint("127.0.0.1", 0), rpc=Endpoint("127.0.0.1", 0))
    # A node of another test in this process may have set its own aside.
    gc.unfreeze()
    serving = asyncio.create_task(run._serve(run.make_node(options, directory, MINER)))
    try:
        async with asyncio.timeout(60):
            while gc.get_freeze_count() == 0 and not serving.done():
                await asyncio.sleep(0.01)
        assert gc.get_freeze_count() > 50_000
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 60)
    finally:
        gc.unfreeze()
