"""What a compact proof of a long chain costs, and how often its draws hit false work beside what is computed.

The chain is synthetic: every header rule holds, signatures are real, but no ticket can be opened, so none is. The draws
are the client's own, against forks whose earned share lies at the end, where it hides the most.
"""

import math
import statistics
import time
import tracemalloc

from benchmarks.light_levels import compute_hit, format_table
from chain.codec import decode, encode
from chain.hashing import tagged_hash
from consensus.flyclient import Demand, prove_chain, verify_chain
from consensus.header_chain import ChainEntry
from consensus.header_proof import PROOF_BYTES_MAX, HeaderProof
from consensus.header_rules import HeaderContext
from consensus.sampling import draw_places

REPEATS = 9
DRAWS = 20_000


def measure_proofs(context: HeaderContext, genesis: ChainEntry, tip: ChainEntry) -> str:
    """Return the section on proofs of the chain of `tip` and of its beginnings."""
    rows = []
    for height in (10_000, 100_000, tip.height):
        if height <= tip.height:
            rows += [_measure_proof(context, genesis, tip.get_ancestor(height), stretch) for stretch in (50, 100, 200)]
    header = (
        *("blocks", "L", "places", "headers sent", "trees", "bytes", "spread"),
        *("prove, ms", "spread", "verify, ms", "spread", "peak memory"),
    )
    return (
        "Compact proofs at 50 bits against c = 1/2. Median and quartile distance over "
        f"{REPEATS} seeds, times of a core; verifying includes decoding and all signatures, no ticket is opened. Peak "
        "memory is what verifying allocates.\n\n" + format_table(header, rows)
    )


def _measure_proof(context: HeaderContext, genesis: ChainEntry, tip: ChainEntry, stretch: int) -> tuple[str, ...]:
    sizes, prove_ms, verify_ms = [], [], []
    now_ms = tip.header.foliage.timestamp_ms
    for number in range(REPEATS):
        demand = Demand(tagged_hash("benchmark", bytes([number])), stretch_blocks=stretch)
        start_ns = time.process_time_ns()
        proof = prove_chain(context, tip, demand)
        prove_ms.append((time.process_time_ns() - start_ns) / 1e6)
        record = encode(proof)
        start_ns = time.process_time_ns()
        proven = verify_chain(
            context, genesis, tip.header, demand, decode(HeaderProof, record, PROOF_BYTES_MAX), now_ms
        )
        verify_ms.append((time.process_time_ns() - start_ns) / 1e6)
        sizes.append(float(len(record)))
    tracemalloc.start()
    verify_chain(context, genesis, tip.header, demand, decode(HeaderProof, record, PROOF_BYTES_MAX), now_ms)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    counts = (f"{len(proven.places)}", f"{len(proof.headers)}", f"{len(proof.nodes):,}")
    measured = (cell for values in (sizes, prove_ms, verify_ms) for cell in _summarise(values))
    return (f"{tip.height:,}", str(stretch), *counts, *measured, f"{peak_bytes / 1e6:.1f} MB")


def _summarise(values: list[float]) -> tuple[str, str]:
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:,.0f}", f"{high - low:,.0f}"


def measure_draws() -> str:
    """Return the section on single draws: how often one hits the false part of a fork."""
    rows = []
    total, stretch = 500_000, 100
    for number, (share, depth) in enumerate((s, d) for s in (1 / 2, 1 / 4, 1 / 10) for d in (2_000, 50_000, 499_999)):
        if share * depth < stretch:
            continue
        false_from, false_to = total - depth, total - round(share * depth)
        places = draw_places(tagged_hash("benchmark.draws", bytes([number])), total, stretch, DRAWS)
        found = sum(false_from <= place < false_to for place in places) / DRAWS
        computed = compute_hit(share, total / stretch)
        error = math.sqrt(computed * (1 - computed) / DRAWS)
        cells = (f"{100 * value:.2f} %" for value in (computed, found, error))
        rows.append((f"1/{round(1 / share)}", f"{depth:,}", *cells))
    return (
        f"One draw against a fork of 500,000 blocks of equal work, L = 100: the chance to hit false work, computed and "
        f"over {DRAWS:,} draws. The forger puts the share that it earned last.\n\n"
        + format_table(("earned", "fork's depth", "computed", "measured", "standard error"), rows)
    )
