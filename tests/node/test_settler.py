"""Settling ahead: the block that ends a round finds its settlement done, and waits for no audit under way."""

import asyncio
import threading
from pathlib import Path

import pytest

from chain.ledger.context import get_task_state
from chain.ledger.learning import SegmentContext
from chain.primitives import ZERO_HASH, Hash
from chain.storage.blob_store import BlobStore
from chain.transaction import Sidecar
from ml.backends import get_backend
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import load_digits
from ml.models import build_program
from ml.segment import Runner
from ml.spec import DIGITS
from node import learning as learning_module
from node.chain import Chain
from node.learning import Learning, Task, execute_segment
from node.settler import Settler
from tests.node.test_audit_duties import PARAMETERS, live, prove
from tests.support.live_node import LiveNode, make_genesis

__all__ = ["live"]


async def test_a_round_is_settled_before_the_block_that_ends_it(
    live: LiveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, settled = live.node.parts, asyncio.Event()
    loop, compute, calls = asyncio.get_running_loop(), parts.learning._settle, list[Hash]()

    def settle(*arguments: object) -> object:
        settlement = compute(*arguments)  # type: ignore[arg-type]  # whatever it is called with
        calls.append(settlement.checkpoint_root)
        loop.call_soon_threadsafe(settled.set)
        return settlement

    monkeypatch.setattr(parts.learning, "_settle", settle)
    await prove(live)
    chain = parts.chain
    state = get_task_state(chain.ledger_context, chain.view())
    closing = state.start_height + PARAMETERS.commit_blocks
    assert closing <= chain.head.height < state.start_height + PARAMETERS.round_blocks - 1
    await asyncio.wait_for(settled.wait(), 60)
    readers = list[int]()

    def read(name: Hash) -> Sidecar:
        readers.append(threading.get_ident())
        return Chain.get_sidecar(chain, name)

    with monkeypatch.context() as patch:
        patch.setattr(chain, "get_sidecar", read)
        await Settler(chain, parts.learning)._settle()
    assert readers
    assert threading.get_ident() not in readers, "block data of a round are read off the event loop"
    await live.mine(state.start_height + PARAMETERS.round_blocks - chain.head.height)
    after = get_task_state(chain.ledger_context, chain.view())
    assert (after.round, [after.checkpoint_root]) == (state.round + 1, calls)


def test_a_commit_is_judged_and_a_round_settled_while_an_audit_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, spec = Task(build_program(DIGITS), load_digits(DIGITS.heldout)), make_genesis().task
    learning = Learning(task, get_backend("cpu"), BlobStore(tmp_path), 8)
    first = compute_initial_checkpoint(task.program)
    segment = SegmentContext(ZERO_HASH, compute_checkpoint_root(first), 0)
    sidecar = execute_segment(Runner(task.program, get_backend("cpu"), task.dataset, segment.seed, first))
    begun, go_on = threading.Event(), threading.Event()

    def execute(*_: object) -> object:
        begun.set()
        assert go_on.wait(60)
        return sidecar

    monkeypatch.setattr(learning_module, "execute_segment", execute)
    auditing = threading.Thread(target=learning.find_fault, args=(spec, segment, sidecar), daemon=True)
    auditing.start()
    assert begun.wait(60)

    def judge() -> None:
        learning.compute_segment_macs(spec)
        learning.make_trace(spec, segment.checkpoint_root, sidecar)
        learning.settle(spec, segment.checkpoint_root, (sidecar,))

    judging = threading.Thread(target=judge, daemon=True)
    judging.start()
    judging.join(60)
    assert not judging.is_alive()
    go_on.set()
    auditing.join(60)
    assert not auditing.is_alive()
