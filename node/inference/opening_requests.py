"""What `POST /v1/openings` takes: a receipt, a beacon that its holder chose after he had it, and how many places.

A server keeps no answer: it runs the receipt's again, and opens nothing of one that it would not give. It computes
nothing here.
"""

from dataclasses import dataclass

import msgspec

from node.inference.completions import ApiError
from node.inference.receipt import OPENINGS_MAX, Receipt, ReceiptForm, make_receipt
from node.models.errors import ModelError
from node.rpc.jsontext import Json


class OpeningForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body as JSON; `beacon` is 64 hex digits."""

    receipt: ReceiptForm
    beacon: str
    count: int = 8


@dataclass(frozen=True, slots=True)
class OpeningRequest:
    """A receipt whose places are to be opened."""

    receipt: Receipt
    beacon: bytes
    count: int


def parse_opening_request(fields: Json) -> OpeningRequest:
    """Return what a body asks for; raises ApiError."""
    try:
        form = msgspec.convert(fields, OpeningForm)
        if not 1 <= form.count <= OPENINGS_MAX:
            raise ApiError(400, f"found {form.count} places, expected 1 to {OPENINGS_MAX}", "count", "out_of_range")
        beacon = bytes.fromhex(form.beacon)
        if len(beacon) != 32:
            raise ApiError(400, f"found a beacon of {len(beacon)} bytes, expected 32", "beacon", "out_of_range")
        return OpeningRequest(make_receipt(form.receipt), beacon, form.count)
    except (ValueError, RecursionError, ModelError) as error:
        # msgspec's errors, and those of hex digits, are ValueErrors.
        raise ApiError(400, str(error), code="invalid_receipt") from None
