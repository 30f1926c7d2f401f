"""A caller in a process of its own: it calls a node without pause and remembers how long each answer took.

So whatever keeps this process busy does not count as the node's silence.
"""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from node.rpc.client import NodeUnreachable, RpcClient
from node.rpc.methods import GET_STATUS
from node.rpc.registry import Params

CALL_EVERY_S = 0.003


class Caller:
    """The calls since they were last asked for."""

    def __init__(self, pipe: Connection) -> None:
        """Take the end of a pipe to the calling process."""
        self._pipe = pipe

    def take_ms(self) -> list[float]:
        """Return how long the calls took since the last time, the one under way included."""
        self._pipe.send("take")
        taken = self._pipe.recv()
        assert isinstance(taken, list)
        return taken


@contextmanager
def run_caller(url: str) -> Iterator[Caller]:
    """Call a node from another process during the block."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.lab.reliability.warm"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_call, args=(url, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        caller = Caller(ours)
        caller.take_ms()
        yield caller
    finally:
        process.kill()
        process.join()


def _call(url: str, pipe: Connection) -> None:
    client, taken = RpcClient(url), list[float]()
    while True:
        start_s = time.perf_counter()
        try:
            client.call(GET_STATUS, Params())
        except NodeUnreachable:
            time.sleep(CALL_EVERY_S)
        taken.append((time.perf_counter() - start_s) * 1000)
        if pipe.poll():
            pipe.recv()
            pipe.send(taken)
            taken = []
        time.sleep(CALL_EVERY_S)
