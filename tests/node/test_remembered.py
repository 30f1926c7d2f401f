"""What is remembered: each answer is computed once, and nobody waits for another's."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from node.remembered import Remembered


def test_an_answer_is_computed_once() -> None:
    remembered, numbers = Remembered[str, int](2), itertools.count(1)

    def ask(key: str) -> int:
        return remembered.get(key, lambda: next(numbers))

    assert [ask("a"), ask("a"), ask("b"), ask("a")] == [1, 1, 2, 1]
    ask("c")
    assert ask("a") == 1, "of three answers the one is forgotten that nobody asked for longest"
    assert ask("b") == 4


def test_threads_that_ask_at_once_share_one_computation() -> None:
    remembered, begun, go_on = Remembered[str, int](4), threading.Semaphore(0), threading.Event()

    def compute() -> int:
        begun.release()
        assert go_on.wait(20)
        return 7

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(remembered.get, "a", compute) for _ in range(4)]
        assert begun.acquire(timeout=20)
        go_on.set()
        assert [each.result(20) for each in asking] == [7] * 4
    assert not begun.acquire(blocking=False), "nobody computed it a second time"


def test_who_asks_for_one_thing_waits_for_no_other() -> None:
    remembered, begun, go_on = Remembered[str, int](4), threading.Event(), threading.Event()

    def compute() -> int:
        begun.set()
        return int(go_on.wait(20))

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(remembered.get, "slow", compute)
        assert begun.wait(20)
        assert pool.submit(remembered.get, "fast", lambda: 2).result(20) == 2
        assert not slow.done()
        go_on.set()
        assert slow.result(20) == 1


def test_what_failed_is_tried_again_and_told_to_all_who_waited() -> None:
    remembered, begun, go_on = Remembered[str, int](4), threading.Event(), threading.Event()

    def fail() -> int:
        begun.set()
        assert go_on.wait(20)
        raise OSError("a disk that is gone")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(remembered.get, "a", fail)
        assert begun.wait(20)
        second = pool.submit(remembered.get, "a", lambda: 1)
        go_on.set()
        with pytest.raises(OSError, match="gone"):
            first.result(20)
        # Whoever came after the failure was noted has computed it anew; before, it was told of it.
        if (error := second.exception(20)) is not None:
            assert isinstance(error, OSError)
    assert remembered.get("a", lambda: 3) in (1, 3)
