"""Answers that were computed once: whoever asks again gets them, and threads that ask at once compute each once.

Who waits, waits for the answer that it asked for and for no other: a block is not held up by an audit. What is asked
must be a pure function of its key. It knows nothing of what is computed.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """The last so many answers, by what was asked; those that nobody has asked for longest are forgotten first."""

    def __init__(self, count_max: int) -> None:
        """Remember `count_max` answers, at least 1."""
        assert count_max >= 1
        self._count_max = count_max
        self._answers: OrderedDict[K, Future[V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, compute: Callable[[], V]) -> V:
        """Return the answer to `key`, by `compute` when nobody has asked; raises what that raises, to all who wait.

        What failed is not remembered. `compute` may ask for other answers, never for its own.
        """
        with self._lock:
            answer = self._answers.get(key)
            is_first = answer is None
            if answer is None:
                answer = self._answers[key] = Future()
                if len(self._answers) > self._count_max:
                    self._answers.popitem(last=False)
            else:
                self._answers.move_to_end(key)
        if is_first:
            self._compute(key, answer, compute)
        return answer.result()

    def _compute(self, key: K, answer: "Future[V]", compute: Callable[[], V]) -> None:
        try:
            answer.set_result(compute())
        except BaseException as error:
            with self._lock:
                if self._answers.get(key) is answer:
                    del self._answers[key]
            answer.set_exception(error)
