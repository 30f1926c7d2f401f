"""`mathesis model verify|open|serve`, and how `sample --verify` writes its receipt.

Receipts and the server stand in `node.inference`; here their results are printed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.failures import end_in_exit_codes
from node.cli.output import Fields, json_option, make_output, print_record
from node.exit_codes import CommandError, ExitCode
from node.options import LOOPBACK, Endpoint

if TYPE_CHECKING:
    from ml.sampling import SamplingRule
    from node.inference.receipt import Receipt

PORT = 4620
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_backend_option = click.option(
    "--backend", type=click.Choice(["cpu", "reference", "cuda"]), default="cpu", show_default=True
)
_threads_option = click.option(
    "--threads", type=click.IntRange(1, 1024), help="Of the cpu backend; all cores by default."
)


@click.command()
@click.argument("receipt", type=_FILE)
@click.option("--checkpoint", type=_FILE, help="Run the answer again with these weights: exact.")
@click.option("--root", help="Checkpoint root that the answer must be of, 64 hex digits.")
@click.option("--beacon", help="Beacon that the openings must be drawn by, 64 hex digits.")
@_backend_option
@_threads_option
@json_option
def verify(
    receipt: Path,
    checkpoint: Path | None,
    root: str | None,
    beacon: str | None,
    backend: str,
    threads: int | None,
    is_json: bool,
) -> None:
    """Verify the answer of a RECEIPT: its openings, which need no weights, or all of it with --checkpoint."""
    from chain.errors import InvalidProof
    from ml.answering import verify_answer
    from node.inference.receipt import read_receipt, verify_receipt
    from node.inference.serving import load_receipt_maker
    from node.models.state_file import read_state

    with end_in_exit_codes():
        found = read_receipt(receipt)
        _refuse_other("root", root, found.answer.checkpoint_root)
        _refuse_other("beacon", beacon, found.beacon)
        if checkpoint is None and not found.openings:
            raise CommandError(ExitCode.USAGE, "found no openings, expected some; or give the weights: --checkpoint")
        try:
            verify_receipt(found)
            if checkpoint is not None:
                verify_answer(load_receipt_maker(read_state(checkpoint), backend, threads).served, found.answer)
        except InvalidProof as error:
            raise CommandError(ExitCode.VERIFICATION_REFUSED, str(error)) from None
    print_record(_describe(found) | {"is_run_again": checkpoint is not None}, is_json)


@click.command("open")
@click.argument("receipt", type=_FILE)
@click.argument("checkpoint", type=_FILE)
@click.option("--beacon", required=True, help="Chosen by whoever verifies, after he had the receipt: 64 hex digits.")
@click.option("--openings", "count", type=click.IntRange(1, 64), default=8, show_default=True, help="Places to open.")
@_backend_option
@_threads_option
@json_option
def open_(
    receipt: Path, checkpoint: Path, beacon: str, count: int, backend: str, threads: int | None, is_json: bool
) -> None:
    """Add to a RECEIPT the openings of the places that a beacon draws; needs the CHECKPOINT that answered."""
    from chain.errors import InvalidProof
    from node.inference.receipt import add_openings, encode_receipt, read_receipt
    from node.inference.serving import load_receipt_maker
    from node.models.files import write_whole
    from node.models.state_file import read_state

    with end_in_exit_codes():
        maker = load_receipt_maker(read_state(checkpoint), backend, threads)
        try:
            opened = add_openings(maker.served, read_receipt(receipt), parse_beacon(beacon), count)
        except InvalidProof as error:
            raise CommandError(ExitCode.VERIFICATION_REFUSED, str(error)) from None
        write_whole(receipt, encode_receipt(opened))
    print_record(_describe(opened), is_json)


@click.command()
@click.argument("checkpoint", type=_FILE)
@click.option("--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True, help="0 for any free one.")
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option("--allow-host", "hosts", multiple=True, help="A further name that requests may use; may be repeated.")
@click.option("--name", help="What requests call the model; the file's name by default.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Answers computed at once.")
@click.option("--waiting", type=click.IntRange(0, 1024), default=16, show_default=True, help="Answers that may wait.")
@_backend_option
@_threads_option
@json_option
def serve(checkpoint: Path, port: int, host: str, hosts: tuple[str, ...], is_json: bool, **flags: object) -> int:
    """Serve a CHECKPOINT over HTTP: OpenAI's completions, a receipt with every answer."""
    from node.inference.run import ServeOptions, run

    name, jobs, waiting, threads = flags["name"], flags["jobs"], flags["waiting"], flags["threads"]
    assert isinstance(jobs, int)
    assert isinstance(waiting, int)
    assert threads is None or isinstance(threads, int)
    options = ServeOptions(
        checkpoint=checkpoint,
        name=str(name or checkpoint.stem),
        endpoint=Endpoint(host, port),
        hosts=hosts,
        running_max=jobs,
        waiting_max=waiting,
        backend=str(flags["backend"]),
        threads=threads,
        output=make_output(is_json),
    )
    with end_in_exit_codes():
        return run(options)


def write_receipt(
    checkpoint: Path, request: tuple[str, int, str, int | None], rule: "SamplingRule", openings: tuple[Path, int]
) -> Fields:
    """Answer (prompt, count, backend, threads), write the receipt with openings that the answer draws; return it."""
    from ml.answer import Request
    from ml.answering import compute_answer
    from node.inference.receipt import NO_BEACON, Receipt, add_openings, encode_receipt
    from node.inference.serving import load_receipt_maker
    from node.models.files import write_whole
    from node.models.sample import START
    from node.models.state_file import read_state

    (prompt, count, backend, threads), (path, places) = request, openings
    maker = load_receipt_maker(read_state(checkpoint), backend, threads)
    data = prompt.encode("utf-8", "surrogateescape") or START
    asked = Request(data, count, rule.temperature_f16, rule.top_k, rule.seed, ())
    receipt: Receipt = maker.make_receipt(compute_answer(maker.served, asked))
    if places:
        receipt = add_openings(maker.served, receipt, NO_BEACON, places)
    write_whole(path, encode_receipt(receipt))
    return {"receipt": str(path)} | _describe(receipt)


def parse_beacon(text: str) -> bytes:
    """Return the 32 bytes of a beacon; raises BadParameter."""
    try:
        beacon = bytes.fromhex(text)
    except ValueError:
        beacon = b""
    if len(beacon) != 32:
        raise click.BadParameter(f"found {text!r:.80}, expected 64 hex digits")
    return beacon


def _refuse_other(name: str, expected: str | None, found: bytes) -> None:
    if expected is not None and parse_beacon(expected) != found:
        raise CommandError(ExitCode.VERIFICATION_REFUSED, f"found the {name} {found.hex()}, expected {expected}")


def _describe(receipt: "Receipt") -> Fields:
    from ml.answer import compute_answer_hash
    from node.models.sample import TextDecoder, decode_prompt

    answer = receipt.answer
    return {
        "answer_hash": compute_answer_hash(answer).hex(),
        "spec_hash": answer.spec_hash.hex(),
        "checkpoint_root": answer.checkpoint_root.hex(),
        "trace_root": answer.trace_root.hex(),
        "prompt": decode_prompt(answer.request.prompt),
        "text": TextDecoder(answer.request.prompt).decode(answer.output, is_last=True),
        "bytes": len(answer.output),
        "beacon": receipt.beacon.hex(),
        "openings": len(receipt.openings),
    }
