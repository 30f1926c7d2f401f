"""The remote methods of disputes: which are open, and the node's own miner's answers.

A challenger's demands are transactions; the node's auditor sends its own.
"""

from typing import Annotated

from msgspec import Meta

from node.rpc import work_views
from node.rpc.api import NodeApi
from node.rpc.arguments import parse_account
from node.rpc.registry import AnyMethod, Method, Params
from node.rpc.submitted import AnswerSubmission
from node.rpc.views import Address, HashText, Record, from_hex, to_hex


class AnswerParams(Params, frozen=True):
    """What a challenger demanded of a segment of the node's own."""

    task: HashText
    round: Annotated[int, Meta(ge=0, lt=2**32)]
    index: Annotated[int, Meta(ge=0, lt=2**16)]
    challenger: Address
    answer: Record


async def _list_disputes(api: NodeApi, _: Params) -> list[work_views.DisputeView]:
    return [work_views.view_dispute(key, dispute) for key, dispute in api.get_disputes()]


async def _submit_answer(api: NodeApi, params: AnswerParams) -> HashText:
    challenger = parse_account(params.challenger)
    submission = AnswerSubmission(from_hex(params.task), params.round, params.index, challenger, params.answer)
    return to_hex(await api.submit_answer(submission))


LIST_DISPUTES = Method(
    "contribution_disputes", "The open disputes, by deadline.", Params, list[work_views.DisputeView], _list_disputes
)
SUBMIT_ANSWER = Method(
    "miner_submitAnswer", "Answer a challenger's demand.", AnswerParams, str, _submit_answer, is_admin=True
)

DISPUTE_METHODS: tuple[AnyMethod, ...] = (LIST_DISPUTES, SUBMIT_ANSWER)
