"""The remote method that reads a paid answer: its escrow, what was answered, and the challenge that waits.

It answers from one key of the state and proves it, absent or closed ones too. Whoever asks, answers or challenges sends
a transaction.
"""

import msgspec

from chain.ledger.inference_records import Challenge, Inference
from chain.ledger.keys import inference_key
from chain.primitives import Hash
from node.addresses import format_address
from node.rpc.api import NodeApi, StateEntry
from node.rpc.economy_views import EntryView, view_entry
from node.rpc.registry import AnyMethod, Method, Params
from node.rpc.views import Address, Amount, HashText, Natural, from_hex, to_hex


class InferenceParams(Params, frozen=True):
    """An inference, by its name."""

    inference: HashText


class PlaceView(msgspec.Struct, frozen=True):
    """An element of an op's output in one pass, and for a matmul a position along its depth."""

    number: Natural
    op: Natural
    row: Natural
    column: Natural
    depth: Natural


class ChallengeView(msgspec.Struct, frozen=True):
    """A place that waits for its opening."""

    challenger: Address
    place: PlaceView
    height: Natural
    deposit: Amount


class InferenceView(msgspec.Struct, frozen=True):
    """A paid answer by its name. `status` is absent, asked, answered or challenged; what is not so far is null.

    The deadline is whatever height the requester chose, in decimal: a JSON number may be too small for it.
    """

    inference: HashText
    status: str
    requester: Address | None
    provider: Address | None
    model: HashText | None
    checkpoint_root: HashText | None
    request_hash: HashText | None
    escrow: Amount
    deposit: Amount
    tokens: Natural | None
    answer_hash: HashText | None
    trace_root: HashText | None
    deadline: Amount | None
    last_height: Natural | None
    challenge: ChallengeView | None
    entry: EntryView


def view_inference(name: Hash, entry: StateEntry[Inference]) -> InferenceView:
    """Return an inference as JSON shows it."""
    found = entry.record
    answer = found.answers[0] if found and found.answers else None
    challenge = found.challenges[0] if found and found.challenges else None
    return InferenceView(
        inference=to_hex(name),
        status="challenged" if challenge else "answered" if answer else "asked" if found else "absent",
        requester=format_address(found.requester) if found else None,
        provider=format_address(found.terms.provider) if found else None,
        model=to_hex(found.model) if found else None,
        checkpoint_root=to_hex(found.terms.checkpoint_root) if found else None,
        request_hash=to_hex(found.terms.request_hash) if found else None,
        escrow=str(found.escrow if found else 0),
        deposit=str(found.deposit if found else 0),
        tokens=answer.tokens if answer else None,
        answer_hash=to_hex(answer.answer_hash) if answer else None,
        trace_root=to_hex(answer.trace_root) if answer else None,
        deadline=str(found.terms.deadline) if found else None,
        last_height=found.last_height if answer and found else None,
        challenge=_view_challenge(challenge) if challenge else None,
        entry=view_entry(entry),
    )


def _view_challenge(challenge: Challenge) -> ChallengeView:
    place = challenge.place
    shown = PlaceView(place.number, place.op, place.row, place.column, place.depth)
    return ChallengeView(format_address(challenge.challenger), shown, challenge.height, str(challenge.deposit))


async def _get_inference(api: NodeApi, params: InferenceParams) -> InferenceView:
    name = from_hex(params.inference)
    return view_inference(name, api.get_state_entry(inference_key(name)))


GET_INFERENCE = Method(
    "inference_get",
    "A paid answer at the head, with its proof.",
    InferenceParams,
    InferenceView,
    _get_inference,
)

INFERENCE_METHODS: tuple[AnyMethod, ...] = (GET_INFERENCE,)
