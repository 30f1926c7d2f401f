"""Pursuing a lie in a paid answer on the chain: challenge, wait for the opening, challenge what it points at, close.

Whoever pursues has the model's weights. A challenge that waits already, one's own or another's, is where a pursuit goes
on, so it may be broken off. It trusts the node that it asks, as a wallet does.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto

from chain.block import BLOCK_BYTES_MAX, Block
from chain.codec import decode
from chain.errors import InvalidProof
from chain.inference import ANSWER_BYTES_MAX, ANSWER_OPENING_BYTES_MAX, ChallengeAnswer, CloseInference, OpenAnswer
from chain.ledger.inference import OPEN_BLOCKS
from chain.primitives import Hash
from ml.answer import Answer, compute_answer_hash
from ml.answer_checks import AnswerOpening
from ml.lie_search import LieSearch, start_search
from ml.openings import Place
from node.exit_codes import CommandError, ExitCode
from node.inference.payments import Sender, read_place
from node.inference.serving import ReceiptMaker
from node.rpc.client import RpcClient
from node.rpc.inference_methods import GET_INFERENCE, InferenceParams, InferenceView
from node.rpc.methods import GET_BLOCK, BlockParams
from node.rpc.views import to_hex
from node.wallet import wait_for_block

POLL_S = 0.2
INCLUSION_S = 120.0
"""How long a challenge may wait for its block."""
ANYWHERE = Place(0, 0, 0, 0, 0)
"""Whatever is challenged, the opening contains the text."""


class Verdict(StrEnum):
    """How a pursuit ended."""

    HONEST = auto()
    """Every byte is what the model gives."""
    WON = auto()
    """The provider opened no more and has lost its deposit."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A place that was challenged, and in the block of which height."""

    place: Place
    height: int


class Pursuit:
    """One answer under pursuit, with the weights of the model that it is said to be of."""

    def __init__(self, sender: Sender, inference: Hash, maker: ReceiptMaker, tell: Callable[[str], None]) -> None:
        """Sign and send through `sender`; say each step to `tell`."""
        self._sender = sender
        self._inference = inference
        self._maker = maker
        self._tell = tell
        self._client = RpcClient(sender.url)
        self._search: LieSearch | None = None

    def run(self, answer: Answer | None) -> Verdict:
        """Pursue an answer to its end; where its text is not at hand the provider is made to show it first.

        Raises CommandError when there is nothing to pursue, InvalidProof when the answer is of another spec or an
        opening does not hold, DecodeError, and what `RpcClient.call` does.
        """
        found = self._get()
        self._validate(found, answer)
        if answer is not None and not self._begin(answer):
            return Verdict.HONEST
        asked = _get_asked(found) or self._challenge(ANYWHERE if self._search is None else self._search.begin())
        while (shown := self._wait_for_opening(asked)) is not None:
            place = self._advance(asked.place, shown)
            if place is None:
                return Verdict.HONEST
            asked = self._challenge(place)
        self._tell("not opened in time: closing")
        self._send(CloseInference(self._inference))
        return Verdict.WON

    def _validate(self, found: InferenceView, answer: Answer | None) -> None:
        if found.status not in ("answered", "challenged"):
            message = f"found an inference that is {found.status}, expected one that is answered"
            raise CommandError(ExitCode.FAILURE, message)
        pairs = [("checkpoint", found.checkpoint_root, to_hex(self._maker.served.checkpoint_root))]
        if answer is not None:
            pairs.append(("answer", found.answer_hash, to_hex(compute_answer_hash(answer))))
        for what, bound, own in pairs:
            if bound != own:
                raise CommandError(ExitCode.USAGE, f"the provider is bound to the {what} {bound}, and this is {own}")

    def _begin(self, answer: Answer) -> bool:
        """Run the answer again; False when there is no lie in it."""
        self._tell(f"running {len(answer.output)} passes again")
        try:
            self._search = start_search(self._maker.served, answer, self._maker.checkpoint_roots)
        except InvalidProof as error:
            if error.rule == "spec-hash":
                raise
            self._tell(f"the answer contradicts itself, so no place of it can be opened: {error}")
            return True
        if self._search is not None:
            self._tell(f"byte {self._search.number} is not what the model gives")
        return self._search is not None

    def _advance(self, place: Place, shown: OpenAnswer) -> Place | None:
        """Return what to challenge after an opening; None when the text that it showed is right."""
        if self._search is None and not self._begin(decode(Answer, shown.answer, ANSWER_BYTES_MAX)):
            return None
        assert self._search is not None
        if place.step != self._search.number:
            return self._search.begin()
        return self._search.advance(place, decode(AnswerOpening, shown.opening, ANSWER_OPENING_BYTES_MAX))

    def _challenge(self, place: Place) -> Asked:
        self._tell(f"challenging pass {place.step}, op {place.op}, row {place.row}, column {place.column}")
        action = ChallengeAnswer(self._inference, place.step, place.op, place.row, place.column, place.depth)
        return Asked(place, self._send(action))

    def _send(self, action: ChallengeAnswer | CloseInference) -> int:
        return wait_for_block(self._sender.url, self._sender.send(action), INCLUSION_S)

    def _wait_for_opening(self, asked: Asked) -> OpenAnswer | None:
        """Return what opened a challenge, None once it is too late for that."""
        while True:
            # The height before the state: a block that comes in between may hold the opening in the last moment.
            height, found = self._sender.get_height(), self._get()
            if _get_asked(found) != asked:
                return self._find_opening(asked)
            if height >= asked.height + OPEN_BLOCKS:
                return None
            time.sleep(POLL_S)

    def _find_opening(self, asked: Asked) -> OpenAnswer:
        for height in range(asked.height + 1, self._sender.get_height() + 1):
            block = decode(Block, self._client.call(GET_BLOCK, BlockParams(height)).record, BLOCK_BYTES_MAX)
            for transaction in block.transactions:
                action = transaction.body.action
                if isinstance(action, OpenAnswer) and action.inference == self._inference:
                    return action
        raise CommandError(ExitCode.FAILURE, "the challenge is gone and was not opened: the inference was closed")

    def _get(self) -> InferenceView:
        return self._client.call(GET_INFERENCE, InferenceParams(to_hex(self._inference)))


def _get_asked(found: InferenceView) -> Asked | None:
    """Return the challenge that waits."""
    if found.challenge is None:
        return None
    return Asked(read_place(found.challenge.place), found.challenge.height)
