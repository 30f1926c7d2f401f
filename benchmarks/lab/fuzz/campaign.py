"""A campaign: decoders one after another, each from its kept corpus, with what it found written out.

One process, so that nothing but the seed and the corpus decides what is tried. It knows no decoder by name.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab.fuzz.corpus import get_decoder_name, read_corpus, write_corpus, write_finding
from benchmarks.lab.fuzz.decoders import get_decoder
from benchmarks.lab.fuzz.fuzzer import Fuzzer, Tally
from benchmarks.lab.fuzz.judging import Verdict, judge_input, judge_memory

CHOSEN_BYTES_MAX = 512
"""Of an input that is kept beyond the campaign."""
CHOSEN_TOTAL_BYTES_MAX = 1_536
"""Of all that are kept of one decoder."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many inputs each of these decoders gets, under which seed, and where inputs are kept."""

    names: tuple[str, ...]
    count: int
    seed: int
    corpus: Path
    findings: Path
    is_kept: bool
    """Whether what was found worth keeping is written into the corpus."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one decoder; `paths` are the files of its findings."""

    name: str
    tally: Tally
    paths: tuple[Path, ...]


def run_campaign(plan: Plan, report: Callable[[str], object]) -> Iterator[Result]:
    """Yield the result of each decoder as it ends; warnings of arithmetic count as crashes. Raises LabError."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for name in plan.names:
            fuzzer = Fuzzer(get_decoder(name), plan.seed, read_corpus(plan.corpus, name))
            tally = fuzzer.run(plan.count)
            if plan.is_kept:
                write_corpus(plan.corpus, name, fuzzer.choose_corpus(CHOSEN_BYTES_MAX, CHOSEN_TOTAL_BYTES_MAX))
            paths = [write_finding(plan.findings, name, each.verdict, each.data) for each in tally.findings]
            report(f"{name}: {tally.inputs:,} inputs, {len(tally.edges)} edges, {len(paths)} findings")
            yield Result(name, tally, tuple(paths))


def repeat_finding(path: Path) -> tuple[str, Verdict]:
    """Return the decoder that a file is of, and how its input ends now; raises LabError."""
    name, data = get_decoder_name(path), path.read_bytes()
    decoder = get_decoder(name)
    verdict, weighed = judge_input(decoder, data), judge_memory(decoder, data)
    return name, weighed if weighed.ending.is_fault and not verdict.ending.is_fault else verdict
