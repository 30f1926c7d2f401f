"""What is worked out once for all nodes of a process: answers of pure functions, remembered by their arguments.

Every node verifies every signature, and on one processor that is most of what they have in common. The real function is
asked, once for each question, so a run's events are the same with and without. It knows no node and no answer.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from chain.codec import decode
from chain.signature import verify_signature
from chain.state.tree import compute_path
from p2p.addresses import is_loopback, pack_ip

ANSWERS_MAX = 16_384
"""Answers kept of each function: those of a few runs."""

ROOMS = ("chain.", "consensus.", "node.", "p2p.")

_REMEMBERED: dict[Callable[..., object], Callable[..., object]] = {
    function: lru_cache(ANSWERS_MAX)(function)
    for function in (verify_signature, decode, compute_path, pack_ip, is_loopback)
}


@contextmanager
def remembering() -> Iterator[None]:
    """Let the nodes' modules ask what remembers in place of what works it out, and put all back at the end."""
    places = list(_find_places())
    for names, name, function in places:
        names[name] = _REMEMBERED[function]
    try:
        yield
    finally:
        for names, name, function in places:
            names[name] = function


def _find_places() -> Iterator[tuple[dict[str, object], str, Callable[..., object]]]:
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(ROOMS):
            names = vars(module)
            for function in _REMEMBERED:
                if names.get(function.__name__) is function:
                    yield names, function.__name__, function
