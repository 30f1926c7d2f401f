"""`python -m benchmarks.headers`: how fast headers are validated, and what a compact proof of 500,000 of them costs.

Writes rates, a profile of one header, sizes and times of proofs, and the rate at which draws hit false work beside the
computed one to benchmarks/results/headers.md, with the machine they were measured on.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks.header_proofs import measure_draws, measure_proofs
from benchmarks.lab.records import describe_machine
from benchmarks.light_levels import format_table
from benchmarks.synthetic_chain import grow, make_context, make_genesis_entry
from chain.codec import decode, encode
from chain.header import (
    HEADER_BYTES_MAX,
    Header,
    compute_beacon,
    compute_header_hash,
    compute_signing_hash,
    compute_trunk_hash,
)
from chain.signature import verify_signature
from consensus.header_chain import ChainEntry, get_median_timestamp, make_entry
from consensus.header_rules import (
    HeaderContext,
    compute_next_target,
    validate_headers,
    validate_signature,
    validate_unsigned,
)
from node.threads import spread_over_threads

RESULTS = Path(__file__).parent / "results" / "headers.md"
HEADERS = 2_000
REPEATS = 15
BLOCKS = 500_000


def measure_s(function: Callable[[], object], clock: Callable[[], int]) -> list[float]:
    """Return the seconds of each of `REPEATS` calls, after one that warms up."""
    function()
    samples = []
    for _ in range(REPEATS):
        start_ns = clock()
        function()
        samples.append((clock() - start_ns) / 1e9)
    return samples


def summarise(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the distance between the quartiles."""
    low, median, high = statistics.quantiles(values, n=4)
    return median, high - low


class Page:
    """One page of headers as a node sends it, its parent, and the ways to take it in."""

    def __init__(self, context: HeaderContext, parent: ChainEntry, headers: Sequence[Header]) -> None:
        """Take decoded `headers` on `parent`."""
        self.context, self.parent, self.headers = context, parent, headers
        self.records = [encode(header) for header in headers]
        self.now_ms = headers[-1].foliage.timestamp_ms
        self.signed = [
            (
                Ed25519PublicKey.from_public_bytes(header.foliage.miner),
                header.signature,
                compute_signing_hash(context.chain_id, header.foliage),
            )
            for header in headers
        ]
        self.in_threads = spread_over_threads(os.cpu_count() or 1)

    def decode(self) -> list[Header]:
        """Decode all records."""
        return [decode(Header, record, HEADER_BYTES_MAX) for record in self.records]

    def validate_unsigned(self) -> None:
        """Decode, check all rules but signatures, and link."""
        entry = self.parent
        for header in self.decode():
            validate_unsigned(self.context, header, entry)
            entry = make_entry(header, entry)

    def verify_signatures(self) -> None:
        """Verify signatures alone."""
        for header in self.headers:
            validate_signature(self.context, header)

    def verify_openssl(self) -> None:
        """Call OpenSSL alone, keys and messages at hand: the floor."""
        for key, signature, message in self.signed:
            key.verify(signature, message)

    def validate(self) -> None:
        """Decode and check everything, in line."""
        validate_headers(self.context, self.decode(), self.parent, self.now_ms, lambda work, n: work(0, n))

    def validate_in_threads(self) -> None:
        """Decode and check everything, signatures on all cores."""
        validate_headers(self.context, self.decode(), self.parent, self.now_ms, self.in_threads)


def measure_rates(page: Page) -> list[tuple[str, ...]]:
    """Return rows of headers a second, of one core's time and of the clock's."""
    rows = []
    for name, function in (
        ("decode", page.decode),
        ("decode, rules, link", page.validate_unsigned),
        ("signatures, strict", page.verify_signatures),
        ("signatures, OpenSSL alone", page.verify_openssl),
        ("all, in line", page.validate),
        ("all, signatures on all cores", page.validate_in_threads),
    ):
        row = [name]
        for clock in (time.process_time_ns, time.perf_counter_ns):
            median, spread = summarise([len(page.headers) / taken for taken in measure_s(function, clock)])
            row += [f"{median:,.0f}", f"{spread:,.0f}"]
        rows.append(tuple(row))
    return rows


def profile_header(page: Page) -> Sequence[tuple[str, ...]]:
    """Return rows of microseconds of one core for each part of a header's validation, mean over a page."""
    context, entry, entries = page.context, page.parent, []
    for header in page.headers:
        entries.append((entry, header, encode(header)))
        entry = make_entry(header, entry)
    span = context.genesis.parameters.median_span
    keys = [(h.foliage.miner, compute_signing_hash(context.chain_id, h.foliage), h.signature) for h in page.headers]

    def check_rules() -> None:
        for before, header, _ in entries:
            validate_unsigned(context, header, before)

    parts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("decode and compare", lambda: [decode(Header, record, HEADER_BYTES_MAX) for _, _, record in entries]),
        ("encode", lambda: [encode(header) for _, header, _ in entries]),
        ("median time", lambda: [get_median_timestamp(parent, span) for parent, _, _ in entries]),
        ("ASERT", lambda: [compute_next_target(context, parent) for parent, _, _ in entries]),
        ("trunk hash", lambda: [compute_trunk_hash(header.trunk) for _, header, _ in entries]),
        ("beacon", lambda: [compute_beacon(p.beacon, h.trunk.ticket.digest) for p, h, _ in entries]),
        ("history root", lambda: [parent.history.compute_root() for parent, _, _ in entries]),
        ("all rules without signature", check_rules),
        ("header hash", lambda: [compute_header_hash(header) for _, header, _ in entries]),
        ("link: hash, history, skip", lambda: [make_entry(header, parent) for parent, header, _ in entries]),
        ("signature, strict", lambda: [verify_signature(*key) for key in keys]),
    )
    rows = []
    for name, function in parts:
        each = [1e6 * taken / len(entries) for taken in measure_s(function, time.process_time_ns)]
        median, spread = summarise(each)
        rows.append((name, f"{median:.2f}", f"{spread:.2f}"))
    return rows


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="length of the longest chain proven")
    blocks = parser.parse_args().blocks
    context = make_context()
    genesis = make_genesis_entry(context)
    load = os.getloadavg()[0]
    tip = grow(context, genesis, blocks)
    parent = tip.get_ancestor(blocks - HEADERS)
    page = Page(context, parent, [tip.get_ancestor(parent.height + n).header for n in range(1, HEADERS + 1)])
    text = "\n".join(
        [
            "# Headers\n",
            f"{describe_machine()}, Python {platform.python_version()}, load average {load:.1f} at the start\n",
            f"Headers a second, median and quartile distance of {REPEATS} runs over a page of {HEADERS:,} at height "
            f"{blocks:,}. The first two columns count one core's time (all threads added up), the others the clock.\n",
            format_table(("what", "of a core", "spread", "of the clock", "spread"), measure_rates(page)),
            "Where the time goes, µs of a core a header:\n",
            format_table(("part", "µs", "spread"), profile_header(page)),
            measure_proofs(context, genesis, tip),
            measure_draws(),
        ]
    )
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
