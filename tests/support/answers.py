"""Answers of tiny models, and what it takes to give and verify them."""

from functools import cache

import numpy as np

from chain.primitives import Hash
from ml.answer import Request
from ml.answering import Served, Traced, compute_answer, make_served
from ml.backends.cpu.tensor_hash import compute_tensor_roots
from ml.checkpoint import Checkpoint, compute_checkpoint_root
from ml.forward import load_model
from tests.support.models import make_case

TEXT = Request(b"to be or", 5, 52_428, 40, 7, ())
IMAGE = Request(np.arange(64, dtype="<i4").tobytes(), 1, 0, 0, 0, ())


def get_request(name: str) -> Request:
    """Return a request that the case called `name` can answer."""
    return IMAGE if name == "mlp" else TEXT


@cache
def make_server(name: str, backend: str = "cpu") -> Served:
    """Return the case's first checkpoint, ready to answer."""
    case = make_case(name, backend)
    return serve_checkpoint(name, case.runner.checkpoint, backend)


def serve_checkpoint(name: str, checkpoint: Checkpoint, backend: str = "cpu") -> Served:
    """Return a checkpoint of a case's model, ready to answer."""
    case = make_case(name, backend)
    model = load_model(case.spec, case.runner.backend, checkpoint.weights)
    return make_served(model, compute_checkpoint_root(checkpoint), compute_tensor_roots)


@cache
def get_checkpoint_roots(name: str) -> tuple[Hash, ...]:
    """Return the tensor roots of the case's first checkpoint."""
    checkpoint = make_case(name).runner.checkpoint
    return compute_tensor_roots([*checkpoint.weights, *checkpoint.momentum])


@cache
def make_answer(name: str) -> Traced:
    """Return the answer of the case's first checkpoint to its request."""
    return compute_answer(make_server(name), get_request(name))
