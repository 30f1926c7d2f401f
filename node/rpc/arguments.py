"""Arguments of calls as what they name, with the error that a caller is told where they name nothing.

It knows no method. What has a form of its own (hashes, numbers) the types of the parameters have checked already.
"""

from chain.errors import DecodeError
from chain.primitives import PublicKey
from node.addresses import parse_address
from node.rpc.errors import ErrorCode, ErrorData, RpcError


def parse_account(text: str) -> PublicKey:
    """Return the public key of an address; raises RpcError."""
    try:
        return parse_address(text)
    except DecodeError as error:
        raise RpcError(ErrorCode.INVALID_PARAMS, ErrorData("address", detail=str(error))) from None
