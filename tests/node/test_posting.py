"""What everybody would have to do for a posted task is bounded before it is done: each refusal, and what is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chain.errors import InvalidTransaction
from chain.genesis import TaskSpec
from chain.ledger.learning import TaskBounds
from chain.primitives import ZERO_HASH, Hash
from chain.storage.blob_store import BlobStore
from ml.backends import get_backend
from ml.checkpoint import compute_checkpoint_root, compute_initial_checkpoint
from ml.dataset import compute_dataset_root, encode_examples, encode_text, load_digits
from ml.models import build_program
from ml.spec import DIGITS, Decoder, Mlp, Spec, count_weights, encode_spec
from node import posting
from node.datasets import find_blob
from node.learning import Learning, Task

SMALL = replace(DIGITS, model=Mlp((64, 16, 10)), segment_steps=8, warmup_steps=1, decay_steps=2, init_seed=9)
DATA = find_blob(load_digits(DIGITS.heldout).root)
BOUNDS = TaskBounds(4 * build_program(DIGITS).segment_macs, 512 * 1024)


@pytest.fixture
def learning(tmp_path: Path) -> Learning:
    task = Task(build_program(DIGITS), load_digits(DIGITS.heldout))
    return Learning(task, get_backend("cpu"), BlobStore(tmp_path), 8)


def make_spec(spec: Spec = SMALL, data: bytes = DATA, root: Hash | None = None) -> TaskSpec:
    """Return a task that starts from its program's first checkpoint, or from the one of a root."""
    start = compute_checkpoint_root(compute_initial_checkpoint(build_program(spec))) if root is None else root
    return TaskSpec("small", encode_spec(spec), compute_dataset_root(data), start)


def refuse(learning: Learning, task: TaskSpec, data: bytes = DATA, *, is_new: bool = True) -> str:
    with pytest.raises(InvalidTransaction) as refused:
        learning.validate_task(task, lambda: data, BOUNDS, is_new=is_new)
    return refused.value.rule


def test_a_good_task_is_kept_with_its_data_and_starts_from_its_first_checkpoint(learning: Learning) -> None:
    task = make_spec()
    learning.validate_task(task, lambda: DATA, BOUNDS, is_new=True)
    assert learning.compute_segment_macs(task) == build_program(SMALL).segment_macs
    assert compute_checkpoint_root(learning.get_checkpoint(task, task.checkpoint_root)) == task.checkpoint_root


def test_a_task_is_loaded_again_from_its_data_after_many_others(
    learning: Learning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.learning.TASKS_MAX", 1)
    first, second = make_spec(), make_spec(replace(SMALL, init_seed=10))
    for task in (first, second):
        learning.validate_task(task, lambda: DATA, BOUNDS, is_new=True)
    monkeypatch.setattr("node.learning.load_dataset_by_root", lambda *_: pytest.fail("the data are at hand"))
    assert learning.get_task(first).dataset.root == first.dataset_root


WIDE = replace(SMALL, batch=8, model=Mlp((64, 2_000, 400, 10)))
LONG = replace(SMALL, batch=4, model=Mlp((64, 64, 64, 10)), segment_steps=2_000)
HEAVY = replace(DIGITS, segment_steps=512, decay_steps=32)
NARROW = replace(SMALL, model=Mlp((32, 16, 10)))
TEXT = replace(SMALL, model=Decoder(128, 16, 16, 1, 1, 32, 0, 0), heldout=1)


DEEP = replace(TEXT, model=Decoder(128, 2, 2, 33, 1, 2, 0, 0))
SHORT = replace(TEXT, batch=1, segment_steps=1, warmup_steps=0, decay_steps=0)


@pytest.mark.parametrize(
    ("spec", "rule"),
    [(WIDE, "task-size"), (DEEP, "task-size"), (LONG, "task-size"), (HEAVY, "task-macs"), (NARROW, "task-program"),
     (TEXT, "task-program"), (replace(SMALL, heldout=1_797), "task-program")],
)  # fmt: skip
def test_what_nobody_could_prove_or_keep_up_with_is_refused(learning: Learning, spec: Spec, rule: str) -> None:
    assert refuse(learning, make_spec(spec, root=ZERO_HASH)) == rule


def test_bytes_that_are_no_spec_and_no_data_set_are_refused(learning: Learning) -> None:
    assert refuse(learning, replace(make_spec(), program=b"\xff\xff")) == "task-program"
    assert refuse(learning, make_spec(data=b"\x07"), b"\x07") == "task-program"


ATTENTIVE = replace(SHORT, model=Decoder(128, 1_024, 32, 8, 32, 1, 0, 1), heldout=3)
"""Few weights, and 32 heads that look at 1,024 places: scoring three records takes gigabytes."""


@pytest.mark.parametrize("model", [Mlp((1, 2)), Decoder(128, 16, 1, 1, 1, 1, 0, 1)])
def test_a_model_that_an_audit_could_draw_nothing_of_is_refused(learning: Learning, model: Mlp | Decoder) -> None:
    """A proof of such an audit would be a fault of every node that looks at it."""
    pixels = np.arange(40, dtype=np.uint8)[:, None] % 17
    narrow = encode_examples(pixels, pixels[:, 0] % 2, 8, 13)
    data = narrow if isinstance(model, Mlp) else encode_text(b"to be or not to be, that is the question. " * 400)
    spec = replace(SMALL, model=model, heldout=1)
    assert refuse(learning, make_spec(spec, data, ZERO_HASH), data) == "task-program"


def test_data_that_take_long_to_split_or_to_score_are_refused(learning: Learning) -> None:
    many = encode_examples(
        np.zeros((posting.RECORDS_MAX + 1, 2), np.uint8), np.ones(posting.RECORDS_MAX + 1, np.uint8), 0, 9
    )
    assert refuse(learning, make_spec(replace(SMALL, model=Mlp((2, 16, 2)), heldout=9), many), many) == "task-records"
    text = encode_text(b"to be or not to be, that is the question. " * 500)
    assert refuse(learning, make_spec(ATTENTIVE, text, ZERO_HASH), text) == "task-heldout"


def test_a_task_starts_from_its_own_first_checkpoint_or_from_one_of_its_shapes(learning: Learning) -> None:
    assert refuse(learning, make_spec(root=ZERO_HASH)) == "task-checkpoint"
    own = learning.keep_checkpoint(compute_initial_checkpoint(build_program(replace(SMALL, init_seed=3))))
    learning.validate_task(make_spec(root=own), lambda: DATA, BOUNDS, is_new=False)
    genesis = compute_checkpoint_root(compute_initial_checkpoint(build_program(DIGITS)))
    assert refuse(learning, make_spec(root=genesis), is_new=False) == "task-checkpoint"


def test_a_task_cannot_start_from_as_many_weights_of_other_shapes(learning: Learning) -> None:
    """Its weights would depend on which of the two tasks a node had read them for last."""
    parent = replace(SMALL, init_seed=3)
    twin = replace(parent, model=Mlp((64, 2, 88, 10)))
    assert count_weights(twin.model) == count_weights(parent.model)
    root = learning.keep_checkpoint(compute_initial_checkpoint(build_program(parent)))
    assert refuse(learning, make_spec(twin, root=root), is_new=False) == "task-checkpoint"


def test_a_text_can_be_posted(learning: Learning) -> None:
    text = encode_text(b"to be or not to be, that is the question. " * 400)
    learning.validate_task(make_spec(TEXT, text), lambda: text, BOUNDS, is_new=True)


def test_what_was_found_good_once_vouches_for_nothing_else(learning: Learning) -> None:
    """A node that has seen a good task must refuse what one that has not refuses."""
    own = learning.keep_checkpoint(compute_initial_checkpoint(build_program(replace(SMALL, init_seed=3))))
    for root, is_new in ((None, True), (own, False)):
        task = make_spec(root=root)
        learning.validate_task(task, lambda: DATA, BOUNDS, is_new=is_new)
        learning.validate_task(task, lambda: pytest.fail("they are read once"), BOUNDS, is_new=is_new)
    assert refuse(learning, make_spec(root=own)) == "task-checkpoint"
    with pytest.raises(InvalidTransaction, match="task-macs"):
        learning.validate_task(make_spec(), lambda: DATA, replace(BOUNDS, macs_max=1), is_new=True)
