"""People who have models trained: one posts tiny tasks, another adds to their pots and puts up bounties.

Some tasks last one round and some several, some pay a MAC so well that their pots run out; one in four goes on from
where the network's own model stands. Marks of bounties are reached at the next better score, or never.
"""

from dataclasses import replace
from functools import cache
from random import Random

import numpy as np

from benchmarks.lab.simulator.setting import SPEC, Setting
from benchmarks.lab.simulator.wallet import Wish
from chain.ledger.context import get_task_state
from chain.ledger.keys import content_key, task_key
from chain.ledger.posted_tasks import BUDGET_MIN
from chain.ledger.registry import compute_dataset_id
from chain.ledger.tasks import get_live_names
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.transaction import FundTask, PostBounty, RegisterDataset
from ml.dataset import DIGITS_SCALE, compute_dataset_root, encode_examples
from ml.spec import Spec
from node.chain import Chain
from node.task_terms import ModelTerms, Offer, make_post_task

RECORDS, HELDOUT = 48, 16
"""Examples of a posted task's data, 3 KB of block data, and how many of them it is scored on."""
PRICES = (1 << 45, 1 << 56)
"""Atoms for 2^40 MACs: what the network's own task pays at first, and far more than any of these pots holds."""
ROUNDS = (1, 1, 2, 4)
CHILD_CHANCE = 0.25
FUND_CHANCE, BOUNTY_CHANCE = 0.1, 0.1
"""Of a look at the head."""
OUT_OF_REACH = 10_000
"""More records than any task here is scored on."""


class Poster:
    """Keeps one task of its own posted."""

    def __init__(self, setting: Setting, random: Random) -> None:
        """Post nothing yet."""
        self._setting = setting
        self._random = random
        self._owner = setting.people["poster"].public_key
        self._number = 0

    def decide(self, chain: Chain) -> list[Wish]:
        """Register the data set; post a task where none is live."""
        view = chain.view()
        data = make_data()
        terms = RegisterDataset(compute_dataset_root(data), "CC0-1.0", royalty_bp=0)
        if view.get(content_key(terms.content_root)) is None:
            return [(terms, None)]
        if get_live_names(view):
            return []
        dataset = compute_dataset_id(self._setting.context.chain_id, self._owner, terms)
        return [self._make_task(chain, dataset, data)]

    def _make_task(self, chain: Chain, dataset: Hash, data: bytes) -> Wish:
        random, context = self._random, chain.ledger_context
        running, blocks = get_task_state(context, chain.view()), context.parameters.round_blocks
        last_height = running.start_height + blocks * (1 + random.choice(ROUNDS))
        budget = BUDGET_MIN + random.randrange(10 * ATOMS_PER_COIN)
        offer = Offer(budget, random.choice(PRICES), last_height)
        is_child = running.round > 0 and random.random() < CHILD_CHANCE
        parent = (context.task_id, running.checkpoint_root) if is_child else None
        self._number += 1
        model = ModelTerms(f"task {self._number}", "Apache-2.0", parent=parent)
        return make_post_task(make_spec(self._number), data, dataset, model, offer)


class Backer:
    """Adds to the pots of live tasks, and puts up bounties for any of them and for the network's own."""

    def __init__(self, setting: Setting, random: Random) -> None:
        """Back nothing yet."""
        self._setting = setting
        self._random = random

    def decide(self, chain: Chain) -> list[Wish]:
        """Fund a task or put up a bounty, now and then."""
        random, view, drawn = self._random, chain.view(), self._random.random()
        names = get_live_names(view)
        if names and drawn < FUND_CHANCE:
            return [(FundTask(random.choice(names), random.randrange(1, 3) * ATOMS_PER_COIN), None)]
        if drawn > 1 - BOUNTY_CHANCE:
            task = random.choice((self._setting.context.task_id, *names))
            mark = view.get_existing(task_key(task)).heldout_correct + random.choice((1, OUT_OF_REACH))
            amount = random.randrange(ATOMS_PER_COIN, 2 * ATOMS_PER_COIN)
            return [(PostBounty(task, amount, mark, chain.head.height + random.randrange(2, 20)), None)]
        return []


@cache
def make_data() -> bytes:
    """Return the canonical bytes of a data set of noise with ten labels."""
    random = Random("data")
    pixels = np.frombuffer(random.randbytes(RECORDS * 64), np.uint8).reshape(RECORDS, 64) % (DIGITS_SCALE.pixel_max + 1)
    labels = np.arange(RECORDS, dtype=np.uint8) % 10
    return encode_examples(pixels, labels, DIGITS_SCALE.centre, DIGITS_SCALE.shift)


def make_spec(number: int) -> Spec:
    """Return what the poster's task of this number trains: the network's own model, from other first weights."""
    return replace(SPEC, batch=16, heldout=HELDOUT, init_seed=1 + number)
