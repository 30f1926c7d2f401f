"""`python -m benchmarks.inference`: what an answer costs plain, traced, opened, verified and run again.

First checkpoints of named specs: what a pass costs does not depend on how well a model was trained. Medians of
repeated runs on the machine it runs on, in processor time of all threads, which the load of others leaves alone. It
writes nothing.
"""

import os
import statistics
import time
from collections.abc import Callable
from itertools import islice

import numpy as np

from chain.codec import encode
from ml.answer import Request
from ml.answer_checks import compute_answer_challenge, draw_answer_places
from ml.answering import Traced, compute_answer, open_answer, verify_answer
from ml.checkpoint import compute_initial_checkpoint
from ml.models import build_program
from ml.sampling import iterate_draws
from ml.spec import Decoder, Spec
from node.inference.receipt import Receipt, encode_receipt, verify_receipt
from node.inference.serving import ReceiptMaker, load_receipt_maker
from node.models.specs import find_spec
from node.models.state_file import ModelState

NAMES = ("digits", "plays-tiny", "plays")
TOKENS = 8
PLACES = 8
REPEATS = 3
BEACON = bytes(range(32))


def make_maker(spec: Spec) -> ReceiptMaker:
    """Return the first checkpoint of a spec, ready to answer."""
    weights = compute_initial_checkpoint(build_program(spec)).weights
    return load_receipt_maker(ModelState(spec, bytes(32), bytes(32), 0, weights, ()), "cpu")


def make_request(spec: Spec) -> Request:
    """Return a request that a model of `spec` answers: a whole window from the first token on, or one example."""
    if isinstance(spec.model, Decoder):
        return Request((b"to be or not to be " * 64)[: spec.model.context], TOKENS, 52_428, 40, 7, ())
    return Request(np.full(spec.model.widths[0], 1 << 15, "<i4").tobytes(), 1, 0, 0, 0, ())


def measure_ms(function: Callable[[], object]) -> float:
    """Return the median milliseconds of processor time of one call."""
    function()
    samples = []
    for _ in range(REPEATS):
        start_ns = time.process_time_ns()
        function()
        samples.append(time.process_time_ns() - start_ns)
    return statistics.median(samples) / 1e6


def draw_plain(maker: ReceiptMaker, request: Request) -> None:
    """Draw the bytes of an answer with no root computed: what sampling alone does."""
    for _ in islice(iterate_draws(maker.served.model, request.prompt, request.rule), request.count):
        pass


def print_model(name: str) -> None:
    """Print the row of one model."""
    spec = find_spec(name).spec
    start_s = time.process_time()
    maker, request = make_maker(spec), make_request(spec)
    load_ms = 1000 * (time.process_time() - start_s)
    traced = compute_answer(maker.served, request)
    count = len(traced.answer.output)
    if isinstance(spec.model, Decoder):
        plain_ms = measure_ms(lambda: draw_plain(maker, request))
        print(f"{name}: plain {plain_ms / count:.2f} ms a pass, {1000 * count / plain_ms:.1f} a second")
    traced_ms = measure_ms(lambda: compute_answer(maker.served, request))
    again_ms = measure_ms(lambda: verify_answer(maker.served, traced.answer))
    print(f"{name}: loaded in {load_ms:,.0f} ms")
    print(f"  traced {traced_ms / count:.2f} ms a pass, {1000 * count / traced_ms:.1f} a second")
    print(f"  run again {again_ms / count:.2f} ms a pass, {again_ms / traced_ms:.2f} of the answer")
    print_openings(maker, traced)


def print_openings(maker: ReceiptMaker, traced: Traced) -> None:
    """Print what opening and verifying drawn places of an answer costs, and what a receipt weighs."""
    answer, spec = traced.answer, maker.served.model.spec
    places = draw_answer_places(spec, answer, compute_answer_challenge(answer, BEACON), PLACES)
    openings = open_answer(maker.served, traced, places)
    open_ms = measure_ms(lambda: open_answer(maker.served, traced, places))
    receipt = Receipt(spec, answer, maker.checkpoint_roots, BEACON, openings)
    verify_ms = measure_ms(lambda: verify_receipt(receipt))
    sizes = sorted(len(encode(opening)) for opening in openings)
    bare = len(encode_receipt(Receipt(spec, answer, maker.checkpoint_roots)))
    passes = len({place.step for place in places})
    print(f"  opening {PLACES} places in {passes} passes {open_ms:.1f} ms, verifying {verify_ms:.1f} ms")
    print(f"  roots a pass {len(traced.passes[0]):,} bytes, an opening {sizes[0]:,} to {sizes[-1]:,} bytes")
    print(f"  receipt {bare:,} bytes without openings, {len(encode_receipt(receipt)):,} with {PLACES}")


def main() -> None:
    """Print a block a model."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {TOKENS} passes over whole windows")
    for name in NAMES:
        print_model(name)
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
