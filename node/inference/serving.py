"""From a checkpoint file to a model that gives answers on this machine, with receipts.

A file holds no outer momentum, so its checkpoint root is that of a checkpoint with none. It knows no socket.
"""

from dataclasses import dataclass

from chain.primitives import Hash
from ml.answer import Request, validate_answerable
from ml.answering import Answering, Served, Traced, make_served, start_answer
from ml.checkpoint import bind_checkpoint_root
from ml.forward import load_model
from node.backends import get_host_backend, make_backend
from node.inference.receipt import Receipt
from node.models.errors import ModelError
from node.models.state_file import ModelState


@dataclass(frozen=True, slots=True)
class ReceiptMaker:
    """A model ready to answer, and the tensor roots that its checkpoint root binds."""

    served: Served
    checkpoint_roots: tuple[Hash, ...]

    def start(self, request: Request) -> Answering:
        """Return an answer under way; raises DecodeError when the model cannot give one."""
        return start_answer(self.served, request)

    def make_receipt(self, traced: Traced) -> Receipt:
        """Return the receipt of an answer, nothing opened yet."""
        return Receipt(self.served.model.spec, traced.answer, self.checkpoint_roots)


def load_receipt_maker(state: ModelState, backend: str, threads: int | None = None) -> ReceiptMaker:
    """Return the model of a checkpoint file, ready to answer; raises ModelError, or DecodeError if it is too large."""
    validate_answerable(state.spec)
    try:
        # A second of compilers, which those who read receipts do without.
        from ml.backends.cpu.tensor_hash import compute_tensor_roots  # noqa: PLC0415
    except ImportError as error:
        raise ModelError("unavailable", f"receipts need {error.name}; install mathesis[train]") from None
    checkpoint = state.checkpoint
    roots = compute_tensor_roots([*checkpoint.weights, *checkpoint.momentum])
    root = bind_checkpoint_root(roots[: len(checkpoint.weights)], roots[len(checkpoint.weights) :])
    model = load_model(state.spec, get_host_backend(make_backend(backend, threads)), checkpoint.weights)
    return ReceiptMaker(make_served(model, root, compute_tensor_roots), roots)
