"""`mathesis inference`: answers of models that are paid for on the chain, from request to close.

The texts themselves travel off the chain (`mathesis model serve`); here are their hashes, deposits and disputes. The
ledger's rules stand in `chain/ledger/inference.py`; what they refuse is told in one line.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from node.cli.failures import end_in_exit_codes
from node.cli.keys import find_keystore, open_key, passphrase_option
from node.cli.output import Fields, directory_option, json_option, parse_coins, print_record, rpc_option

if TYPE_CHECKING:
    from chain.inference import InferenceAction
    from chain.primitives import Hash
    from ml.answer import Answer
    from node.inference.payments import Sender
    from node.rpc.inference_methods import InferenceView

F = TypeVar("F", bound=Callable[..., object])

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_name_argument = click.argument("inference")


def sender_options(command: F) -> F:
    """Add what a command needs that signs and sends: `--key`, `--fee`, what opens the key, and the node."""
    key = click.option("--key", default="default", show_default=True, help="A wallet key's name or a keystore file.")
    fee = click.option("--fee", default="0.001", show_default=True, help="Coins.")
    return directory_option(rpc_option(key(fee(passphrase_option(json_option(command))))))


@click.group()
def inference() -> None:
    """Paid answers of models: ask, answer, challenge, open, close."""


@inference.command()
@click.argument("checkpoint_root")
@click.option("--provider", required=True, help="Address of whoever is to answer.")
@click.option("--prompt", required=True, help="Text to continue.")
@click.option("--bytes", "count", type=click.IntRange(1, 4096), default=100, show_default=True, help="How many.")
@click.option("--temperature", default="0.8", show_default=True, help="0 takes the likeliest; else 1/64 to 64.")
@click.option("--top-k", type=click.IntRange(0, 65_535), default=40, show_default=True, help="0 for all.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True)
@click.option("--price", required=True, help="Coins for each byte.")
@click.option("--part", type=click.IntRange(0, 9_000), default=5_000, show_default=True, help="Provider's, of 10,000.")
@click.option("--blocks", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Time to answer.")
@sender_options
def request(checkpoint_root: str, provider: str, prompt: str, price: str, is_json: bool, **flags: object) -> None:
    """Escrow the price of an answer by the model with CHECKPOINT_ROOT; prints the inference's name."""
    from chain.inference import RequestInference
    from ml.answer import Request, compute_request_hash
    from ml.sampling import validate_rule
    from node.addresses import parse_address
    from node.models.sample import parse_temperature

    sender, whole = _make_sender(flags), {name: value for name, value in flags.items() if isinstance(value, int)}
    with end_in_exit_codes():
        temperature = parse_temperature(str(flags["temperature"]))
        asked = Request(prompt.encode(), whole["count"], temperature, whole["top_k"], whole["seed"], ())
        validate_rule(asked.rule)
        request_hash, root = compute_request_hash(asked), parse_hash(checkpoint_root)
        terms = RequestInference(
            checkpoint_root=root,
            request_hash=request_hash,
            provider=parse_address(provider),
            provider_bp=whole["part"],
            tokens=whole["count"],
            price=parse_coins(price),
            deadline=sender.get_height() + whole["blocks"],
        )
        name, transaction = sender.request(terms)
    record: Fields = {"inference": name.hex(), "request_hash": request_hash.hex(), "transaction": transaction}
    print_record(record | {"deadline": terms.deadline}, is_json)


@inference.command()
@_name_argument
@click.argument("receipt", type=_FILE)
@sender_options
def answer(inference: str, receipt: Path, is_json: bool, **flags: object) -> None:
    """Bind yourself, the provider, to the answer of a RECEIPT; the deposit is locked until the inference is closed."""
    from chain.inference import AnswerInference
    from ml.answer import compute_answer_hash
    from node.inference.receipt import read_receipt

    with end_in_exit_codes():
        found = read_receipt(receipt).answer
    name, tokens = parse_hash(inference), len(found.output)
    _refuse_other_question(_get(str(flags["url"]), inference), found)
    _send(flags, AnswerInference(name, compute_answer_hash(found), found.trace_root, tokens), is_json)


@inference.command()
@_name_argument
@click.option("--pass", "number", type=click.IntRange(0, 4095), required=True, help="Which byte's pass.")
@click.option("--op", type=click.IntRange(0, 65_535), required=True, help="Index in the forward program.")
@click.option("--row", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--column", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--depth", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@sender_options
def challenge(inference: str, number: int, op: int, row: int, column: int, is_json: bool, **flags: object) -> None:
    """Demand the opening of one place of an answer; a deposit is locked, and half of it goes to an honest provider."""
    from chain.inference import ChallengeAnswer

    depth = flags["depth"]
    assert isinstance(depth, int)
    _send(flags, ChallengeAnswer(parse_hash(inference), number, op, row, column, depth), is_json)


@inference.command("open")
@_name_argument
@click.argument("receipt", type=_FILE)
@click.argument("checkpoint", type=_FILE)
@sender_options
def open_(inference: str, receipt: Path, checkpoint: Path, is_json: bool, **flags: object) -> None:
    """Open the challenged place of the answer of a RECEIPT, by the CHECKPOINT that gave it."""
    from chain.errors import InvalidProof
    from node.exit_codes import CommandError, ExitCode
    from node.inference.payments import make_opening
    from node.inference.receipt import read_receipt
    from node.inference.serving import load_receipt_maker
    from node.models.state_file import read_state

    found = _get(str(flags["url"]), inference)
    if found.challenge is None:
        raise CommandError(ExitCode.FAILURE, f"found an inference that is {found.status}, expected a challenged one")
    with end_in_exit_codes():
        maker = load_receipt_maker(read_state(checkpoint), "cpu")
        try:
            action = make_opening(maker, read_receipt(receipt), parse_hash(inference), found.challenge.place)
        except InvalidProof as error:
            raise CommandError(ExitCode.VERIFICATION_REFUSED, str(error)) from None
    _send(flags, action, is_json)


@inference.command()
@_name_argument
@click.argument("checkpoint", type=_FILE)
@click.option("--receipt", type=_FILE, help="The answer's text; without it the provider is first made to show it.")
@sender_options
def pursue(inference: str, checkpoint: Path, receipt: Path | None, is_json: bool, **flags: object) -> int:
    """Run an answer again by the CHECKPOINT of its model, and challenge a lie until the provider cannot open it.

    Exit code 7: the provider has lost its deposit. Each challenge locks a hundredth of that deposit, half of which is
    the provider's if it opens the place.
    """
    from chain.errors import InvalidProof
    from node.exit_codes import CommandError, ExitCode
    from node.inference.pursuit import Pursuit, Verdict
    from node.inference.receipt import read_receipt
    from node.inference.serving import load_receipt_maker
    from node.models.state_file import read_state

    with end_in_exit_codes():
        name, sender = parse_hash(inference), _make_sender(flags)
        pursuit = Pursuit(sender, name, load_receipt_maker(read_state(checkpoint), "cpu"), _tell)
        try:
            verdict = pursuit.run(None if receipt is None else read_receipt(receipt).answer)
        except InvalidProof as error:
            raise CommandError(ExitCode.VERIFICATION_REFUSED, str(error)) from None
    print_record({"verdict": verdict}, is_json)
    return int(ExitCode.OK if verdict is Verdict.HONEST else ExitCode.VERIFICATION_REFUSED)


@inference.command()
@_name_argument
@sender_options
def close(inference: str, is_json: bool, **flags: object) -> None:
    """Pay out an inference on which nobody can act any more; anyone may."""
    from chain.inference import CloseInference

    _send(flags, CloseInference(parse_hash(inference)), is_json)


@inference.command()
@_name_argument
@rpc_option
@json_option
def show(inference: str, url: str, is_json: bool) -> None:
    """Show where an inference stands."""
    from msgspec import to_builtins

    found = _get(url, inference)
    record: Fields = to_builtins(found)
    del record["entry"]
    print_record(record | {"height": found.entry.height}, is_json)


def parse_hash(text: str) -> "Hash":
    """Return the 32 bytes that 64 hex digits name, 0x before them or not; raises BadParameter."""
    from chain.primitives import Hash

    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != 32:
        raise click.BadParameter(f"found {text!r:.80}, expected 64 hex digits")
    return Hash(data)


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _get(url: str, inference: str) -> "InferenceView":
    from node.rpc.client import RpcClient
    from node.rpc.inference_methods import GET_INFERENCE, InferenceParams
    from node.rpc.views import to_hex

    return RpcClient(url).call(GET_INFERENCE, InferenceParams(to_hex(parse_hash(inference))))


def _refuse_other_question(asked: "InferenceView", answer: "Answer") -> None:
    """Raise CommandError when an answer is of another request or model: who is bound to it can open nothing."""
    from ml.answer import compute_request_hash
    from node.exit_codes import CommandError, ExitCode
    from node.rpc.views import to_hex

    pairs = (
        ("request", asked.request_hash, to_hex(compute_request_hash(answer.request))),
        ("checkpoint", asked.checkpoint_root, to_hex(answer.checkpoint_root)),
    )
    for what, expected, own in pairs:
        if expected not in (None, own):
            raise CommandError(ExitCode.USAGE, f"found an answer of the {what} {own}, expected one of {expected}")


def _send(flags: dict[str, object], action: "InferenceAction", is_json: bool) -> None:
    transaction = _make_sender(flags).send(action)
    print_record({"transaction": transaction}, is_json, f"sent: {transaction}")


def _make_sender(flags: dict[str, object]) -> "Sender":
    from node.inference.payments import Sender

    directory, passphrase, fee = flags["directory"], flags["passphrase"], str(flags["fee"])
    assert isinstance(directory, Path)
    assert passphrase is None or isinstance(passphrase, str)
    key = open_key(find_keystore(str(flags["key"]), directory), passphrase)
    return Sender(str(flags["url"]), key, 0 if fee == "0" else parse_coins(fee))
