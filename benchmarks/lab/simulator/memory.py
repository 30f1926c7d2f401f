"""What is worked out once for all nodes of a process: answers of pure functions, remembered by their arguments.

Every node verifies every signature and opening, and on one processor that is most of what they have in common. The real
function is asked, once for each question, so a run's events are the same with and without. It knows no node.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from chain.codec import decode
from chain.primitives import Hash
from chain.signature import verify_signature
from chain.state.tree import compute_path
from ml.checks import CheckContext
from ml.proving import verify_openings
from ml.spec import encode_spec
from ml.trace import Trace
from p2p.addresses import is_loopback, pack_ip

ANSWERS_MAX = 16_384
"""Answers kept of each function: those of a few runs."""

OPENINGS_MAX = 512
"""Openings of segments that are remembered to hold, 40 KB each: those of a few runs."""

ROOMS = ("chain.", "consensus.", "node.", "p2p.")

_held: set[tuple[object, ...]] = set()


def _verify_openings_once(
    context: CheckContext, trace: Trace, challenge: Hash, count: int, openings: tuple[bytes, ...]
) -> None:
    """Check openings as `verify_openings` does; raises InvalidProof, each time."""
    program = encode_spec(context.program.spec)
    roots = context.dataset.root, context.segment_seed, trace.checkpoint_roots, trace.output_roots
    question = program, *roots, challenge, count, openings
    if question not in _held:
        verify_openings(context, trace, challenge, count, openings)
        if len(_held) >= OPENINGS_MAX:
            _held.clear()
        _held.add(question)


_REMEMBERED: dict[Callable[..., object], Callable[..., object]] = {
    function: lru_cache(ANSWERS_MAX)(function)
    for function in (verify_signature, decode, compute_path, pack_ip, is_loopback)
} | {verify_openings: _verify_openings_once}


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
