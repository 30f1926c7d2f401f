"""Fuzzing one decoder: inputs are altered, tried, and kept where they take a new step or are refused in a new way.

Mutators that find more are drawn more often. One seed decides every input of a decoder, given the corpus it starts
from; clocks decide nothing but what counts as slow. It knows no decoder by name.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from time import thread_time_ns

from benchmarks.lab.fuzz.coverage import Edge, Tracer
from benchmarks.lab.fuzz.decoder import Decoder
from benchmarks.lab.fuzz.judging import Ending, Verdict, judge_input, judge_memory, measure_time
from benchmarks.lab.fuzz.shrinking import shrink
from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import Mutator
from benchmarks.lab.records import LabError

TRACED_EVERY = 64
"""Of how many inputs one is traced whatever comes of it; a new kind of refusal is traced always."""
WEIGHED_EVERY = 256
"""Of how many inputs one has its memory traced, and every one that is longer than all before."""
SCHEDULED_EVERY = 2_048
"""Inputs between two looks at which mutators find something."""
SOUND = 0.6
"""The share of inputs that are made of one that was accepted; of a refused one little is left to go wrong."""
TWICE = 0.25
"""The share of inputs that are altered once more, by a mutator of bytes."""
KEPT_MAX = 512
KEPT_BYTES_MAX = 8 * 1024
"""Longer inputs are tried and not kept, samples apart."""
REFUSAL_KINDS_MAX = 512
FINDINGS_MAX = 20

_VARIABLE = re.compile(r"found .*?(?=, expected|; |$)|'[^']*'|[^A-Za-z .]+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault, the input that showed it, and the least of it that still does."""

    verdict: Verdict
    data: bytes


@dataclass(slots=True)
class Tally:
    """What was tried of one decoder, and what came of it."""

    inputs: int = 0
    endings: Counter[Ending] = field(default_factory=Counter)
    edges: set[Edge] = field(default_factory=set)
    refusals: set[str] = field(default_factory=set)
    """Kinds of refusals, numbers and names taken out."""
    corpus: list[bytes] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    longest_bytes: int = 0
    slowest_ns: int = 0
    """Of this thread, the least of three turns of the slowest input."""
    peak_bytes: int = 0
    time_ns: int = 0
    """Of this thread in all, tracing included."""


class Fuzzer:
    """Tries inputs of one decoder; `tally` says what came of them."""

    def __init__(self, decoder: Decoder, seed: int, kept: Sequence[bytes] = ()) -> None:
        """Start from the samples and from inputs kept earlier; raises LabError where no sample is accepted."""
        self.tally = Tally()
        self._decoder = decoder
        self._rng = Random(f"{seed}:{decoder.name}")
        self._tracer = Tracer()
        self._names = list(decoder.mutators)
        self._finds: Counter[str] = Counter()
        samples = decoder.make_samples()
        if all(judge_input(decoder, data).ending is Ending.REFUSED for data in samples):
            raise LabError(f"{decoder.name}: found {len(samples)} samples, all refused; expected one accepted")
        self._samples = frozenset(samples)
        self._accepted = [data for data in samples if data] or [bytes(1)]
        for data in (*samples, *kept):
            self._try(data, is_traced=True)
        self._weights = [1] * len(self._names)

    def run(self, count: int) -> Tally:
        """Try `count` more inputs and return the tally."""
        start_ns = thread_time_ns()
        for number in range(1, count + 1):
            name, data = self._alter()
            if self._try(data, is_traced=number % TRACED_EVERY == 0):
                self._finds[name] += 1
            if number % SCHEDULED_EVERY == 0:
                self._weights = [1 + 8 * self._finds[each] for each in self._names]
                self._finds.clear()
        self.tally.time_ns += thread_time_ns() - start_ns
        return self.tally

    def _alter(self) -> tuple[str, bytes]:
        rng = self._rng
        kept = self._accepted if rng.random() < SOUND else self.tally.corpus or self._accepted
        # Younger ones are drawn more often: they are where something was found last.
        data, other = kept[int(len(kept) * rng.random() ** 0.5)], rng.choice(self._accepted)
        name = rng.choices(self._names, self._weights)[0]
        altered = _apply(rng, self._decoder.mutators[name], data, other)
        if altered and rng.random() < TWICE:
            altered = _apply(rng, BYTE_MUTATORS[rng.choice(list(BYTE_MUTATORS))], altered, other)
        return name, altered[: self._decoder.size_bytes_max + 1]

    def _try(self, data: bytes, *, is_traced: bool) -> bool:
        """Judge an input, and say whether it showed something new."""
        tally, decoder = self.tally, self._decoder
        verdict = judge_input(decoder, data)
        if tally.inputs % WEIGHED_EVERY == 0 or len(data) > tally.longest_bytes:
            weighed = judge_memory(decoder, data)
            tally.peak_bytes = max(tally.peak_bytes, weighed.peak_bytes)
            verdict = weighed if weighed.ending is Ending.HOARDED else verdict
        tally.inputs += 1
        tally.endings[verdict.ending] += 1
        tally.longest_bytes = max(tally.longest_bytes, len(data))
        if verdict.time_ns > tally.slowest_ns:
            tally.slowest_ns = max(tally.slowest_ns, measure_time(decoder, data))
        if verdict.ending.is_fault:
            self._keep_finding(verdict, data)
            return False
        is_new = verdict.ending is Ending.REFUSED and self._is_new_refusal(verdict.detail)
        if not is_traced and not is_new:
            return False
        edges = self._tracer.trace(lambda: judge_input(decoder, data))
        if not is_new and edges <= tally.edges:
            return False
        tally.edges |= edges
        self._keep(data, verdict.ending is Ending.ACCEPTED)
        return True

    def _is_new_refusal(self, detail: str) -> bool:
        kind = _VARIABLE.sub("", detail[:160])
        if kind in self.tally.refusals or len(self.tally.refusals) >= REFUSAL_KINDS_MAX:
            return False
        self.tally.refusals.add(kind)
        return True

    def _keep(self, data: bytes, is_accepted: bool) -> None:
        corpus = self.tally.corpus
        if data in self._samples or (0 < len(data) <= KEPT_BYTES_MAX and len(corpus) < KEPT_MAX):
            corpus.append(data)
            if is_accepted and data not in self._samples:
                self._accepted.append(data)

    def _keep_finding(self, verdict: Verdict, data: bytes) -> None:
        known = [finding.verdict.kind for finding in self.tally.findings]
        if verdict.kind in known or len(known) >= FINDINGS_MAX:
            return
        judge = judge_memory if verdict.ending is Ending.HOARDED else judge_input
        least = shrink(data, lambda shorter: judge(self._decoder, shorter).kind == verdict.kind)
        again = judge(self._decoder, least)
        # What overflows a stack does so at one depth of calls and not at another; then the whole input is kept.
        finding = Finding(again, least) if again.kind == verdict.kind else Finding(verdict, data)
        self.tally.findings.append(finding)

    def choose_corpus(self, bytes_max: int, total_bytes_max: int) -> list[bytes]:
        """Return few and short inputs that together take most of the steps that were found."""
        chosen, covered, size_bytes = list[bytes](), set[Edge](), 0
        for data in sorted({*self.tally.corpus}, key=lambda each: (len(each), each)):
            if len(data) > bytes_max or size_bytes + len(data) > total_bytes_max:
                continue
            edges = self._tracer.trace(lambda data=data: judge_input(self._decoder, data))  # type: ignore[misc]
            if not edges <= covered:
                chosen.append(data)
                covered |= edges
                size_bytes += len(data)
        return chosen


def _apply(rng: Random, mutate: Mutator, data: bytes, other: bytes) -> bytes:
    """Return what a mutator makes of an input; one that knows a structure may find none in what was altered before."""
    if not data:
        return rng.randbytes(1 << rng.randrange(6))
    try:
        return mutate(rng, data, other)
    except Exception:  # msgpack, its recursion, surrogates: whatever a mutator cannot take is altered as bytes
        return BYTE_MUTATORS[rng.choice(list(BYTE_MUTATORS))](rng, data, other or data)
