"""`mathesis model`: specs and their programs, and what can be done with a checkpoint.

What a spec, a checkpoint and an export are stands in `node.models`; here it is printed.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from node.cli import market, registered
from node.cli.failures import end_in_exit_codes
from node.cli.model_answers import open_, serve, verify, write_receipt
from node.cli.output import Fields, json_option, print_record, rpc_option

if TYPE_CHECKING:
    from ml.sampling import SamplingRule
    from node.models.describe import OpView
    from node.models.evaluate import Score

F = TypeVar("F", bound=Callable[..., object])

_CHECKPOINT = click.Path(path_type=Path, exists=True, dir_okay=False)


def _backend_options(command: F) -> F:
    """Add `--backend` and `--threads`."""
    threads = click.option("--threads", type=click.IntRange(1, 1024), help="Of the cpu backend; all cores by default.")
    choice = click.Choice(["cpu", "reference", "cuda"])
    return click.option("--backend", type=choice, default="cpu", show_default=True)(threads(command))


@click.group()
def model() -> None:
    """Specs, checkpoints, text and receipts; models of the network."""


for _command in (
    verify,
    open_,
    serve,
    market.list_,
    market.register,
    market.buy,
    market.pay,
    market.licence,
    market.pull,
):
    model.add_command(_command)


@model.command()
@json_option
def specs(is_json: bool) -> None:
    """List the specs that this version knows by name; --json prints them whole, as `train` reads them from files."""
    from msgspec import to_builtins

    from node.models.describe import compute_totals
    from node.models.specs import list_specs, make_form

    for named in list_specs():
        totals = compute_totals(named.spec)
        record: Fields = {"name": named.name, "data": named.data, "spec_hash": totals.spec_hash}
        record |= {"parameters": totals.parameters, "spec": to_builtins(make_form(named.spec))}
        text = f"{named.name:<11} {totals.parameters:>10,} parameters  {totals.spec_hash[:16]}  {named.summary}"
        print_record(record, is_json, text)


@model.command()
@click.argument("spec")
@json_option
def program(spec: str, is_json: bool) -> None:
    """List the ops of a training step of SPEC (a name or a JSON file), and what a step costs."""
    from dataclasses import asdict

    from node.models.describe import compute_totals, list_ops
    from node.models.specs import find_spec

    with end_in_exit_codes():
        named = find_spec(spec)
    ops, totals = list_ops(named.spec), compute_totals(named.spec)
    for op in ops:
        print_record({"op": asdict(op)}, is_json, _format_op(op))
    if not is_json:
        click.echo()
    print_record({"totals": asdict(totals)} if is_json else asdict(totals), is_json)


@model.command()
@click.argument("checkpoint", metavar="CHECKPOINT|MODEL")
@rpc_option
@json_option
def show(checkpoint: str, url: str, is_json: bool) -> None:
    """Say what a CHECKPOINT file is, from its header alone; or what is registered of a MODEL, 0x... or `network`."""
    if checkpoint == registered.NETWORK or registered.is_name(checkpoint):
        registered.show_model(url, registered.parse_model(checkpoint), is_json)
        return
    path: object = _CHECKPOINT.convert(checkpoint, None, None)
    assert isinstance(path, Path)
    _show_checkpoint(path, is_json)


def _show_checkpoint(checkpoint: Path, is_json: bool) -> None:
    from msgspec import to_builtins

    from node.models.provenance import describe_data
    from node.models.state_file import read_header

    with end_in_exit_codes():
        header = read_header(checkpoint)
    metadata = header.metadata
    record: Fields = {
        "spec_hash": metadata.spec_hash,
        "step": metadata.step,
        "steps": header.spec.segment_steps,
        "data_root": metadata.data_root,
        "data": describe_data(bytes.fromhex(metadata.data_root)).name or None,
        "seed": metadata.seed,
        "start": metadata.start or None,
        "has_moments": len(metadata.parts) > 1,
        "digest": metadata.digest,
    }
    print_record(record | {"spec": to_builtins(metadata.spec)} if is_json else record, is_json)


@model.command()
@click.argument("checkpoint", type=_CHECKPOINT)
@click.option("--data", help="Data set; the one it was trained on by default.")
@click.option("--tokens", type=click.IntRange(1), default=8_192, show_default=True, help="Of held-out text.")
@_backend_options
@json_option
def evaluate(
    checkpoint: Path, data: str | None, tokens: int, backend: str, threads: int | None, *, is_json: bool
) -> None:
    """Score a CHECKPOINT on held-out data, in integers."""
    from node.backends import make_backend
    from node.datasets.progress import show_progress
    from node.models.data import find_data
    from node.models.evaluate import evaluate as compute_score
    from node.models.state_file import read_state

    with end_in_exit_codes():
        state = read_state(checkpoint)
        with show_progress(is_silent=is_json) as on_progress:
            dataset = find_data(state, data, on_progress)
        score = compute_score(state, make_backend(backend, threads), dataset, tokens)
    record: Fields = {"step": state.step, "data_root": dataset.root.hex()} | _make_score(score)
    print_record(record, is_json)


@model.command()
@click.argument("checkpoint", type=_CHECKPOINT)
@click.option("--prompt", default="", help="Text to continue; a new line by default.")
@click.option("--bytes", "count", type=click.IntRange(1, 1 << 20), default=400, show_default=True, help="How many.")
@click.option("--temperature", default="0.8", show_default=True, help="0 takes the likeliest; else 1/64 to 64.")
@click.option("--top-k", type=click.IntRange(0), default=40, show_default=True, help="Likeliest bytes; 0 for all.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True)
@click.option("--verify", "is_verifiable", is_flag=True, help="Write a receipt that `model verify` checks.")
@click.option("--receipt", type=click.Path(path_type=Path, dir_okay=False), default="receipt.json", show_default=True)
@click.option("--openings", type=click.IntRange(0, 64), default=8, show_default=True, help="Places that it opens.")
@_backend_options
@json_option
def sample(
    checkpoint: Path,
    prompt: str,
    count: int,
    temperature: str,
    top_k: int,
    seed: int,
    backend: str,
    threads: int | None,
    *,
    is_verifiable: bool,
    receipt: Path,
    openings: int,
    is_json: bool,
) -> None:
    """Continue a text with a CHECKPOINT; the same checkpoint, prompt and seed give the same bytes everywhere."""
    from ml.sampling import SamplingRule
    from node.models.sample import parse_temperature

    with end_in_exit_codes():
        rule = SamplingRule(parse_temperature(temperature), top_k, seed)
        request = (prompt, count, backend, threads)
        if is_verifiable:
            print_record(write_receipt(checkpoint, request, rule, (receipt.expanduser(), openings)), is_json)
        else:
            _print_sample(checkpoint, request, rule, is_json)


@model.command()
@click.argument("checkpoint", type=_CHECKPOINT)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--moments", "has_moments", is_flag=True, help="With the optimizer's state, to train on from.")
@click.option("--data", help="Data set to score it on; the one it was trained on by default.")
@click.option("--no-evaluation", is_flag=True, help="Do not score it.")
@_backend_options
@json_option
def export(
    checkpoint: Path,
    directory: Path,
    has_moments: bool,
    data: str | None,
    no_evaluation: bool,
    backend: str,
    threads: int | None,
    *,
    is_json: bool,
) -> None:
    """Write a CHECKPOINT to a new DIRECTORY that other programs read: safetensors, plain PyTorch, a model card."""
    from node.backends import make_backend
    from node.datasets.progress import show_progress
    from node.models.data import find_data
    from node.models.evaluate import evaluate
    from node.models.export import export_model
    from node.models.files import refuse_existing
    from node.models.state_file import read_state

    with end_in_exit_codes():
        state, score = read_state(checkpoint), None
        refuse_existing(directory)
        if not no_evaluation:
            with show_progress(is_silent=is_json) as on_progress:
                dataset = find_data(state, data, on_progress)
            score = evaluate(state, make_backend(backend, threads), dataset)
        found = export_model(state, directory.expanduser(), score, has_moments)
    record: Fields = {"directory": str(directory), "digest": found.checkpoint_digest}
    record |= {"files": sorted(found.files) if is_json else ", ".join(sorted(found.files))}
    print_record(record | (_make_score(score) if score else {}), is_json)


@model.command("import")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Checkpoint; DIRECTORY.safetensors by default."
)
@json_option
def import_(directory: Path, out: Path | None, is_json: bool) -> None:
    """Check an exported model in DIRECTORY, every file of it, and write its checkpoint."""
    from node.models.export import import_model
    from node.models.state_file import SUFFIX, read_header

    target = (out or Path(f"{directory.resolve().name}{SUFFIX}")).expanduser()
    with end_in_exit_codes():
        state = import_model(directory, target)
        digest = read_header(target).metadata.digest
    print_record({"checkpoint": str(target), "step": state.step, "digest": digest}, is_json)


def _print_sample(
    checkpoint: Path, request: tuple[str, int, str, int | None], rule: "SamplingRule", is_json: bool
) -> None:
    from node.backends import make_backend
    from node.models.sample import decode_prompt, iterate_pieces
    from node.models.state_file import read_state

    prompt, count, backend, threads = request
    state, data = read_state(checkpoint), prompt.encode("utf-8", "surrogateescape")
    pieces = iterate_pieces(state, make_backend(backend, threads), data, rule, count)
    if is_json:
        drawn = list(pieces)
        text, tokens = "".join(piece.text for piece in drawn), [piece.byte for piece in drawn]
        print_record(
            {"prompt": decode_prompt(data), "text": text, "bytes": tokens, "seed": rule.seed, "step": state.step}, True
        )
        return
    is_started = False
    try:
        for piece in pieces:
            if not is_started:
                click.echo(decode_prompt(data), nl=False)
                is_started = True
            click.echo(piece.text, nl=False)
            sys.stdout.flush()
    finally:
        if is_started:
            click.echo()


def _make_score(score: "Score") -> Fields:
    return {
        f"bits_per_{score.per}": score.bits,
        "accuracy": score.accuracy,
        "correct": score.correct,
        "count": score.count,
        "loss_f16": score.loss_f16,
    }


def _format_op(op: "OpView") -> str:
    sides = [", ".join(tensor.text for tensor in tensors) for tensors in (op.inputs, op.outputs)]
    macs = f"  {op.macs:,} MACs" if op.macs else ""
    end = "  (after the last step)" if op.is_segment_end else ""
    return f"{op.index:>4}  {op.kind:<22} {op.layer:>3}  {sides[0] or 'data'} -> {sides[1]}{macs}{end}"
