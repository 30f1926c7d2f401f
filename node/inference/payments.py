"""What the parties to a paid answer do beside computing: sign, send, and turn a receipt into an opening.

It trusts the node that it asks for nonce and height, as a wallet does. It prints nothing.
"""

from dataclasses import dataclass

from chain.errors import DecodeError
from chain.inference import InferenceAction, OpenAnswer, RequestInference
from chain.ledger.inference import compute_inference_id
from chain.primitives import Hash
from chain.signature import SigningKey
from ml.answer_checks import validate_answer_place
from ml.answering import open_answer, verify_answer
from ml.openings import Place
from ml.spec import encode_spec
from node.inference.claims import make_shown
from node.inference.receipt import Receipt
from node.inference.serving import ReceiptMaker
from node.rpc.client import RpcClient
from node.rpc.inference_methods import PlaceView
from node.rpc.methods import GET_STATUS
from node.rpc.registry import Params
from node.wallet import get_chain_id, send_action, send_signed, sign_next


@dataclass(frozen=True, slots=True)
class Sender:
    """A key that sends through a node, for so many atoms of fee each."""

    url: str
    key: SigningKey
    fee: int

    def get_height(self) -> int:
        """Return the node's height."""
        return RpcClient(self.url).call(GET_STATUS, Params()).head.height

    def send(self, action: InferenceAction) -> str:
        """Sign and send an action; return the transaction's hash."""
        return send_action(self.url, self.key, action, self.fee)

    def request(self, terms: RequestInference) -> tuple[Hash, str]:
        """Send a request; return the inference's name, which the key's nonce decides, and the transaction's hash."""
        client = RpcClient(self.url)
        chain_id = get_chain_id(client)
        transaction = sign_next(client, chain_id, self.key, terms, self.fee)
        # By the nonce that is signed: were it asked for again, another transaction of the key might have come between.
        name = compute_inference_id(chain_id, self.key.public_key, transaction.body.nonce)
        return name, send_signed(client, transaction)


def read_place(view: PlaceView) -> Place:
    """Return the place that a node says is challenged."""
    return Place(view.number, view.op, view.row, view.column, view.depth)


def make_opening(maker: ReceiptMaker, receipt: Receipt, inference: Hash, place: PlaceView) -> OpenAnswer:
    """Return the opening of a challenged place; the answer is run again first. Raises InvalidProof.

    A place that the answer does not have is answered by the opening of another.
    """
    traced = verify_answer(maker.served, receipt.answer)
    wanted = read_place(place)
    try:
        validate_answer_place(receipt.spec, receipt.answer, wanted)
    except DecodeError:
        wanted = Place(0, 0, 0, 0, 0)
    opening = open_answer(maker.served, traced, (wanted,))[0]
    return make_shown(inference, encode_spec(receipt.spec), receipt.answer, receipt.checkpoint_roots, opening)
