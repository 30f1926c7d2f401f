"""What the network's registry says of data sets, models and licences, by a node's answer, and how it is printed.

Names are 0x-hex; `network` stands for the network's own model. Nothing is verified here: `state_getModel` and its kin
answer with proofs.
"""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

import click
import msgspec

from node.cli.output import Fields, format_coins, print_record
from node.terminal import clean_line

if TYPE_CHECKING:
    from chain.primitives import Hash
    from node.rpc.client import RpcClient
    from node.rpc.economy_views import DatasetTermsView, ModelTermsView
    from node.rpc.list_views import DatasetEntryView, HolderPageView, ModelEntryView

NETWORK = "network"
_NAME = re.compile(r"0x[0-9a-f]{64}")


class Page(Protocol):
    """A part of a list."""

    @property
    def next(self) -> str | None:
        """Where the next page starts; None at the end."""
        ...


P = TypeVar("P", bound=Page)


def is_name(text: str) -> bool:
    """Say whether a text is the name of something registered."""
    return text.startswith("0x")


def parse_name(text: str) -> str:
    """Return the 0x-hex name of a data set or model, or any root; raises BadParameter."""
    if not _NAME.fullmatch(text.lower()):
        raise click.BadParameter(f"found {text!r:.80}, expected 0x and 64 hex digits")
    return text.lower()


def parse_model(text: str) -> str | None:
    """Return a model's name, None for the network's own; raises BadParameter."""
    return None if text == NETWORK else parse_name(text)


def find_model(client: "RpcClient", name: str | None) -> str:
    """Return a model's name, the network's own for None; raises what `RpcClient.call` does."""
    from node.rpc.task_methods import GET_TASK, TaskParams

    return client.call(GET_TASK, TaskParams()).task if name is None else name


def find_dataset(client: "RpcClient", name: str) -> "tuple[Hash, Hash]":
    """Return the names of a registered data set, or of the network's own, and of its content; raises CommandError."""
    from node.exit_codes import CommandError, ExitCode
    from node.rpc.economy_methods import GET_DATASET, GET_MODEL, DatasetParams, ModelParams
    from node.rpc.views import from_hex

    if name == NETWORK:
        model = client.call(GET_MODEL, ModelParams(find_model(client, None))).terms
        assert model is not None, "the network's own model stands from genesis on"
        name = model.datasets[0]
    terms = client.call(GET_DATASET, DatasetParams(parse_name(name))).terms
    if terms is None:
        raise CommandError(ExitCode.FAILURE, f"no data set {name} is registered; `mathesis dataset register` does it")
    return from_hex(name), from_hex(terms.content_root)


def show_dataset(url: str, name: str, is_json: bool) -> None:
    """Print a registered data set; raises CommandError when there is none."""
    from node.rpc.client import RpcClient
    from node.rpc.economy_methods import GET_DATASET, DatasetParams

    found = RpcClient(url).call(GET_DATASET, DatasetParams(name))
    if found.terms is None:
        raise _absent("data set", name, found.entry.height)
    record = _make_dataset_record(name, found.terms)
    content = found.content
    # How many there are nobody knows before one has come: it is the first to tell the size.
    record["size_bytes"] = None if content is None else content.size_bytes
    held, total = (0, None) if content is None else (len(content.parts), content.parts_total)
    record |= {"parts": held, "parts_total": total} if is_json else {"parts": f"{held} of {total or '?'}"}
    others = [each.dataset for each in found.resembles]
    # None where not all of the content has come, so that nobody can tell.
    resembles = None if found.sketch is None else others if is_json else ", ".join(others) or "none"
    record["resembles"] = resembles
    print_record(record | {"height": found.entry.height}, is_json)


def show_model(url: str, model: str | None, is_json: bool) -> None:
    """Print a registered model; raises CommandError when there is none."""
    from node.rpc.client import RpcClient
    from node.rpc.economy_methods import GET_MODEL, ModelParams

    client = RpcClient(url)
    name = find_model(client, model)
    found = client.call(GET_MODEL, ModelParams(name))
    if found.terms is None:
        raise _absent("model", name, found.entry.height)
    account: Fields = {"units": found.units, "held_coins": format_coins(int(found.held)), "held_atoms": found.held}
    account |= {"waiting_atoms": found.waiting, "height": found.entry.height}
    record = _make_model_record(name, found.terms, is_json) | account
    print_record(record, is_json)


def list_datasets(url: str, is_json: bool) -> None:
    """Print all registered data sets, one a line."""
    for entry in _iter_datasets(url):
        terms = entry.terms
        text = f"{entry.dataset}  {_format_bp(terms.royalty_bp):>8}  {terms.licence:<20}  {terms.owner or 'nobody'}"
        print_record(_make_dataset_record(entry.dataset, terms), is_json, text)


def list_models(url: str, is_json: bool) -> None:
    """Print all registered models, one a line."""
    for entry in _iter_models(url):
        terms = entry.terms
        price = f"{format_coins(int(terms.licence_price))} coins" if terms.licence_price != "0" else "no licences"
        held = f"{int(entry.units):>18,} units  {format_coins(int(entry.held))} held"
        text = f"{entry.model}  {clean_line(terms.name):<16.16}  {price:<14}  {terms.licence:<20}  {held}"
        account: Fields = {"units": entry.units, "held_atoms": entry.held, "waiting_atoms": entry.waiting}
        print_record(_make_model_record(entry.model, terms, is_json) | account, is_json, text)


def iter_holders(client: "RpcClient", name: str) -> "Iterator[HolderPageView]":
    """Yield the pages of who holds shares of a model; raises what `RpcClient.call` does."""
    from node.rpc.list_methods import LIST_HOLDERS, HoldersParams

    return _iter_pages(lambda cursor: client.call(LIST_HOLDERS, HoldersParams(name, cursor)))


def format_percent(part: int, whole: int) -> str:
    """Return what part of a whole is, in percent with two decimals rounded down; a dash where there is no whole."""
    if not whole:
        return "-"
    hundredths = part * 10_000 // whole
    return f"{hundredths // 100}.{hundredths % 100:02d} %"


def _iter_datasets(url: str) -> "Iterator[DatasetEntryView]":
    from node.rpc.client import RpcClient
    from node.rpc.list_methods import LIST_DATASETS, PageParams

    client = RpcClient(url)
    for page in _iter_pages(lambda cursor: client.call(LIST_DATASETS, PageParams(cursor))):
        yield from page.datasets


def _iter_models(url: str) -> "Iterator[ModelEntryView]":
    from node.rpc.client import RpcClient
    from node.rpc.list_methods import LIST_MODELS, PageParams

    client = RpcClient(url)
    for page in _iter_pages(lambda cursor: client.call(LIST_MODELS, PageParams(cursor))):
        yield from page.models


def _iter_pages(ask: "Callable[[str | None], P]") -> "Iterator[P]":
    """Yield all pages of a list; `ask` returns the one at a cursor."""
    cursor: str | None = None
    while True:
        page = ask(cursor)
        yield page
        cursor = page.next
        if cursor is None:
            return


def _make_dataset_record(name: str, terms: "DatasetTermsView") -> Fields:
    fields: Fields = msgspec.to_builtins(terms)
    return {"dataset": name} | fields


def _make_model_record(name: str, terms: "ModelTermsView", is_json: bool) -> Fields:
    record: Fields = {"model": name} | msgspec.to_builtins(terms)
    if not is_json:
        record["licence_price"] = f"{format_coins(int(terms.licence_price))} coins"
        record["datasets"] = ", ".join(terms.datasets) or None
    return record


def _format_bp(basis_points: int) -> str:
    return f"{basis_points // 100}.{basis_points % 100:02d} %"


def _absent(what: str, name: str, height: int) -> Exception:
    from node.exit_codes import CommandError, ExitCode

    return CommandError(ExitCode.FAILURE, f"found no {what} {name} at height {height}; the list command shows all")
