"""How one input ends: accepted, refused by a typed error, or as none may, and whether it took too long or too much.

A time counts when it is seen three times over, in time of this thread, since others may hold the processor. Memory is
traced where the caller asks for it, as tracing is slow. It draws no input.
"""

import tracemalloc
from dataclasses import dataclass
from enum import Enum
from time import perf_counter_ns, thread_time_ns

from benchmarks.lab.fuzz.decoder import Decoder, Unfaithful

SLOW_NS = 50_000_000
"""No input may take longer."""
MEMORY_BYTES_FIXED = 1024 * 1024
"""What a decoder may hold whatever it is handed; msgpack's reader takes a quarter of it."""
MEMORY_PER_BYTE = 8
"""Bytes that a decoder may hold for each byte of the largest input it takes."""
REPEATS = 3


class Ending(Enum):
    """How an input ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    CRASHED = "crashed"
    UNFAITHFUL = "unfaithful"
    SLOW = "slow"
    HOARDED = "hoarded"

    @property
    def is_fault(self) -> bool:
        """Say whether an input must not end so."""
        return self not in (Ending.ACCEPTED, Ending.REFUSED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """An ending with the error behind it, and what it took; times by the wall clock."""

    ending: Ending
    detail: str
    time_ns: int
    peak_bytes: int = 0

    @property
    def kind(self) -> tuple[str, str]:
        """What two findings share when they are one: the ending and the type of the error."""
        return self.ending.value, self.detail.partition(":")[0] if self.ending is Ending.CRASHED else ""


def judge_input(decoder: Decoder, data: bytes) -> Verdict:
    """Return how an input ends; slow is only what stays so when it is repeated."""
    verdict = _judge_once(decoder, data)
    if verdict.time_ns > SLOW_NS and not verdict.ending.is_fault:
        time_ns = measure_time(decoder, data)
        if time_ns > SLOW_NS:
            return Verdict(Ending.SLOW, f"found {time_ns / 1e6:.0f} ms, expected at most {SLOW_NS / 1e6:.0f}", time_ns)
    return verdict


def measure_time(decoder: Decoder, data: bytes) -> int:
    """Return the nanoseconds of this thread that an input takes, the least of three turns."""
    times = []
    for _ in range(REPEATS):
        start_ns = thread_time_ns()
        _judge_once(decoder, data)
        times.append(thread_time_ns() - start_ns)
    return min(times)


def judge_memory(decoder: Decoder, data: bytes) -> Verdict:
    """Return how an input ends with its memory traced; its time says nothing."""
    tracemalloc.start()
    try:
        verdict = _judge_once(decoder, data)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    limit_bytes = MEMORY_BYTES_FIXED + MEMORY_PER_BYTE * decoder.size_bytes_max
    if peak_bytes > limit_bytes and not verdict.ending.is_fault:
        return Verdict(Ending.HOARDED, f"found {peak_bytes} bytes, expected at most {limit_bytes}", 0, peak_bytes)
    return Verdict(verdict.ending, verdict.detail, 0, peak_bytes)


def _judge_once(decoder: Decoder, data: bytes) -> Verdict:
    ending, detail = Ending.ACCEPTED, ""
    start_ns = perf_counter_ns()
    try:
        decoder.judge(data)
    except decoder.refusals as error:
        ending, detail = Ending.REFUSED, str(error)
    except Unfaithful as error:
        ending, detail = Ending.UNFAITHFUL, str(error)
    except Exception as error:  # whatever a decoder did not mean to raise is what is looked for here
        ending, detail = Ending.CRASHED, f"{type(error).__name__}: {error}"
    return Verdict(ending, detail, perf_counter_ns() - start_ns)
