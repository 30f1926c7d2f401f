"""The registry of remote methods: one table makes the server, the OpenRPC document, the clients and the command line.

A method is a name, a summary, a struct of parameters, a type of result and a handler; types are strict (a string is no
number, a boolean no integer). It knows neither HTTP nor any method. Source: OpenRPC specification 1.3.2.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec

from node.rpc.api import NodeApi
from node.rpc.errors import ErrorCode, ErrorData, RpcError
from node.rpc.jsontext import Json

OPENRPC_VERSION = "1.3.2"

P = TypeVar("P", bound=msgspec.Struct)
R = TypeVar("R")


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every method's parameters; alone it is a method that takes none."""


@dataclass(frozen=True, slots=True)
class Method(Generic[P, R]):
    """One remote method. `is_admin` methods need the node's cookie token."""

    name: str
    summary: str
    params: type[P]
    result: type[R]
    handler: Callable[[NodeApi, P], Awaitable[R]]
    is_admin: bool = False

    async def call(self, api: NodeApi, params: Json) -> object:
        """Validate `params`, by name or by position, and return the handler's result; raises RpcError."""
        return await self.handler(api, parse_params(self.params, params))


class AnyMethod(Protocol):
    """A method whose types are not of interest."""

    @property
    def name(self) -> str:
        """The remote name."""
        ...

    @property
    def summary(self) -> str:
        """One line for people."""
        ...

    @property
    def is_admin(self) -> bool:
        """Whether the cookie token is needed."""
        ...

    @property
    def params(self) -> type[msgspec.Struct]:
        """The struct of parameters."""
        ...

    @property
    def result(self) -> type[object]:
        """The type of the result."""
        ...

    async def call(self, api: NodeApi, params: Json) -> object:
        """Run the method."""
        ...


class Registry:
    """The methods a server offers, by name."""

    def __init__(self, methods: Sequence[AnyMethod]) -> None:
        """Take the methods in the order in which they are documented."""
        self._methods = {method.name: method for method in methods}
        assert len(self._methods) == len(methods), "two methods share a name"

    def __iter__(self) -> Iterator[AnyMethod]:
        return iter(self._methods.values())

    def get(self, name: str) -> AnyMethod:
        """Return a method; raises RpcError when there is none of that name."""
        method = self._methods.get(name)
        if method is None:
            raise RpcError(ErrorCode.METHOD_NOT_FOUND, ErrorData("unknown-method", found=repr(name[:80])))
        return method


def parse_params(cls: type[P], params: Json) -> P:
    """Return the struct `cls` from a JSON object (by name) or array (by position); raises RpcError."""
    if isinstance(params, list):
        names = cls.__struct_fields__
        if len(params) > len(names):
            found, expected = f"{len(params)} parameters", f"at most {len(names)}"
            raise RpcError(ErrorCode.INVALID_PARAMS, ErrorData("too-many-parameters", found=found, expected=expected))
        params = dict(zip(names, params, strict=False))
    try:
        return msgspec.convert({} if params is None else params, cls, strict=True)
    except msgspec.ValidationError as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, ErrorData("parameter-type", detail=str(error))) from None


def make_openrpc(registry: Registry, version: str) -> dict[str, object]:
    """Return the OpenRPC document of a registry."""
    shapes = [shape for method in registry for shape in (*_get_field_types(method), method.result)]
    described, components = msgspec.json.schema_components(
        shapes, schema_hook=_describe_any, ref_template="#/components/schemas/{name}"
    )
    schemas: Iterator[object] = iter(described)
    methods = []
    for method in registry:
        params = [
            {"name": field.encode_name, "required": field.required, "schema": next(schemas)}
            for field in msgspec.structs.fields(method.params)
        ]
        tags = [{"name": "admin" if method.is_admin else "public"}]
        result = {"name": "result", "schema": next(schemas)}
        methods.append(
            {"name": method.name, "summary": method.summary, "tags": tags, "params": params, "result": result}
        )
    info = {"title": "Mathesis node", "version": version, "license": {"name": "Apache-2.0"}}
    return {"openrpc": OPENRPC_VERSION, "info": info, "methods": methods, "components": {"schemas": components}}


def make_docs_table(registry: Registry) -> str:
    """Return a Markdown table of the methods and their parameters; optional ones stand in brackets."""
    lines = ["| method | parameters | access | what it does |", "|---|---|---|---|"]
    for method in registry:
        fields = msgspec.structs.fields(method.params)
        params = ", ".join(field.name if field.required else f"[{field.name}]" for field in fields)
        lines.append(f"| `{method.name}` | {params} | {'cookie' if method.is_admin else 'open'} | {method.summary} |")
    return "\n".join(lines) + "\n"


def _describe_any(kind: type) -> dict[str, object]:
    assert kind is object
    return {"description": "any JSON value"}


def _get_field_types(method: AnyMethod) -> list[type[object]]:
    return [field.type for field in msgspec.structs.fields(method.params)]
