"""The miner's line to its node: a thread that keeps the newest work at hand, and calls that submit results.

Mining must not wait for the network, so work is polled beside it; a node that is away for a while is waited for.
"""

import threading
from collections.abc import Callable

from chain.codec import decode, encode
from chain.errors import MathesisError
from chain.genesis import GENESIS_BYTES_MAX, Genesis
from chain.primitives import Hash
from chain.ticket import Ticket, TicketOpening
from node.observability.journal import get_log
from node.rpc import methods
from node.rpc.client import NodeUnreachable, RemoteError, RpcClient
from node.rpc.dispute_methods import SUBMIT_ANSWER, AnswerParams
from node.rpc.registry import Params
from node.rpc.task_methods import GET_POSTED, GET_TASK_DATA, PostedParams, PostedTaskView
from node.rpc.views import HashText, from_hex, to_hex
from node.rpc.work_views import WorkView

log = get_log("miner")

POLL_S = 0.1


class NodeLink:
    """Polls for work in the background and submits what was found."""

    def __init__(self, url: str, read_token: Callable[[], str]) -> None:
        """Talk to the node at `url` with the cookie that `read_token` returns."""
        self._url = url
        self._read_token = read_token
        self._client = RpcClient(url, read_token())
        self._work: WorkView | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="work", daemon=True)

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling."""
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Say whether the miner was asked to stop."""
        return self._stopping.is_set()

    def wait(self, timeout_s: float) -> None:
        """Sleep, but not past a stop."""
        self._stopping.wait(timeout_s)

    def get_work(self) -> WorkView | None:
        """Return the newest work, or None while the node has not answered."""
        return self._work

    def get_genesis(self) -> Genesis:
        """Return the network's genesis record; raises NodeUnreachable."""
        return decode(Genesis, self._client.call(methods.GET_GENESIS, Params()).record, GENESIS_BYTES_MAX)

    def get_posted(self, task: HashText) -> PostedTaskView:
        """Return how a task was posted; raises RemoteError, NodeUnreachable."""
        return self._client.call(GET_POSTED, PostedParams(task))

    def get_task_data(self, task: HashText) -> bytes:
        """Return a posted task's data set; raises RemoteError, NodeUnreachable."""
        return self._client.call(GET_TASK_DATA, PostedParams(task))

    def get_checkpoint(self, round_number: int, task: HashText) -> bytes:
        """Return the checkpoint that a round of a task starts from; raises RemoteError, NodeUnreachable."""
        params = methods.CheckpointParams(round=round_number, content=True, task=task)
        content = self._client.call(methods.GET_CHECKPOINT, params).content
        assert content is not None
        return content

    def submit_ticket(self, parent_hash: Hash, ticket: Ticket, opening: TicketOpening) -> str:
        """Hand in a winning ticket and return what became of it."""
        params = methods.TicketParams(to_hex(parent_hash), encode(ticket), encode(opening))
        return self._try(lambda: self._client.call(methods.SUBMIT_TICKET, params))

    def submit_segment(self, params: methods.SegmentParams) -> str:
        """Hand in a segment and return its transaction's hash, or "" when it was refused."""
        return self._try(lambda: self._client.call(methods.SUBMIT_SEGMENT, params))

    def submit_openings(self, params: methods.OpeningsParams) -> str:
        """Hand in openings and return the transaction's hash, or "" when they were refused."""
        return self._try(lambda: self._client.call(methods.SUBMIT_OPENINGS, params))

    def submit_answer(self, params: AnswerParams) -> str:
        """Hand in an answer and return the transaction's hash, or "" when it was refused."""
        return self._try(lambda: self._client.call(SUBMIT_ANSWER, params))

    def report_rates(self, tickets: int, macs: int) -> None:
        """Tell the node what mining does a second."""
        self._try(lambda: str(self._client.call(methods.REPORT_RATES, methods.RatesParams(tickets, macs))))

    def _try(self, call: Callable[[], str]) -> str:
        try:
            return call()
        except (RemoteError, NodeUnreachable) as error:
            log.warning("the node did not take it", error=str(error))
            return ""

    def _poll(self) -> None:
        client = RpcClient(self._url, self._client_token())
        while not self._stopping.wait(POLL_S):
            try:
                self._work = client.call(methods.GET_WORK, Params())
            except MathesisError as error:
                log.info("waiting for the node", error=str(error))
                self._work = None
                self._stopping.wait(1.0)
                # A restarted node has a new cookie.
                client = RpcClient(self._url, self._client_token())
                self._client = RpcClient(self._url, self._client_token())

    def _client_token(self) -> str:
        try:
            return self._read_token()
        except NodeUnreachable:
            return ""


def get_parent_hash(work: WorkView) -> Hash:
    """Return the hash of the block that the work builds on."""
    return from_hex(work.parent.hash)
