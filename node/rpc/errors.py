"""The errors of a remote call: the codes of JSON-RPC 2.0, this project's own, and the exception that carries one.

Every error names a rule and, where it can, what was found and expected; none carries a stack trace.
Source: JSON-RPC 2.0 specification, section 5.1.
"""

from enum import IntEnum

import msgspec

from chain.errors import DecodeError, InvalidBlock, InvalidProof, InvalidTransaction, MathesisError, MissingData


class ErrorCode(IntEnum):
    """What went wrong with a call; -32099 to -32000 are this project's own."""

    PARSE = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL = -32603
    REFUSED = -32000
    NOT_FOUND = -32001
    UNAUTHORISED = -32002
    LIMIT = -32003

    @property
    def meaning(self) -> str:
        """Return the message that goes with the code."""
        return _MEANINGS[self]


_MEANINGS = {
    ErrorCode.PARSE: "Parse error",
    ErrorCode.INVALID_REQUEST: "Invalid Request",
    ErrorCode.METHOD_NOT_FOUND: "Method not found",
    ErrorCode.INVALID_PARAMS: "Invalid params",
    ErrorCode.INTERNAL: "Internal error",
    ErrorCode.REFUSED: "Refused by a rule of the chain",
    ErrorCode.NOT_FOUND: "Not found",
    ErrorCode.UNAUTHORISED: "Unauthorised",
    ErrorCode.LIMIT: "Limit exceeded",
}


class ErrorData(msgspec.Struct, frozen=True, omit_defaults=True):
    """The typed part of an error: a stable rule slug and the two sides of the disagreement."""

    rule: str
    found: str | None = None
    expected: str | None = None
    detail: str | None = None


class ErrorObject(msgspec.Struct, frozen=True):
    """The `error` member of a response."""

    code: int
    message: str
    data: ErrorData | None = None


class RpcError(MathesisError):
    """A call that cannot be answered."""

    def __init__(self, code: ErrorCode, data: ErrorData) -> None:
        """Keep the `code` and the typed `data`."""
        sides = [f"found {data.found}" if data.found else "", f"expected {data.expected}" if data.expected else ""]
        text = ", ".join(part for part in (data.detail or "", *sides) if part)
        super().__init__(f"{code.meaning} ({data.rule}){': ' if text else ''}{text}")
        self.code = code
        self.data = data

    def to_object(self) -> ErrorObject:
        """Return the `error` member that tells a client."""
        return ErrorObject(int(self.code), self.code.meaning, self.data)


def not_found(what: str, name: str) -> RpcError:
    """Return the error for something the node does not know."""
    return RpcError(ErrorCode.NOT_FOUND, ErrorData(f"unknown-{what}", found=name, expected=f"a {what} this node has"))


def from_chain_error(error: MathesisError) -> RpcError:
    """Return the remote form of an error that the node raised about what a caller sent."""
    if isinstance(error, RpcError):
        return error
    if isinstance(error, InvalidTransaction | InvalidBlock | InvalidProof):
        return RpcError(ErrorCode.REFUSED, ErrorData(error.rule, detail=error.message))
    if isinstance(error, DecodeError):
        return RpcError(ErrorCode.REFUSED, ErrorData("encoding", detail=str(error)))
    if isinstance(error, MissingData):
        return RpcError(ErrorCode.REFUSED, ErrorData("missing-data", detail=str(error)))
    return RpcError(ErrorCode.INTERNAL, ErrorData("internal"))
