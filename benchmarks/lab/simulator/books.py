"""The books of a final chain: each block's transactions and events are entered, and held against the state after it.

They are kept beside the ledger, of whose amounts they use none. It knows no node.
"""

from collections import Counter
from collections.abc import Mapping

from benchmarks.lab.simulator.answer_books import AnswerBooks
from benchmarks.lab.simulator.false_answers import Given
from benchmarks.lab.simulator.purses import Purses
from benchmarks.lab.simulator.setting import Setting
from benchmarks.lab.simulator.task_books import TaskBooks
from chain.block import Block
from chain.ledger.context import BlockEffects
from chain.primitives import Hash
from chain.state.view import StateView


class Books:
    """What became of everything that was paid for training and for answers."""

    def __init__(self, setting: Setting, answers: Mapping[Hash, Given], *, is_quiet: bool) -> None:
        """Begin at genesis; `answers` says what is known of each."""
        chain_id, parameters = setting.context.chain_id, setting.genesis.parameters
        self._purses = Purses(key.public_key for key in setting.people.values())
        self.tasks = TaskBooks(chain_id, parameters, self._purses)
        self._answers = AnswerBooks(chain_id, parameters, self._purses, answers, is_quiet)

    @property
    def counts(self) -> Counter[str]:
        """What was done, by names."""
        return self.tasks.counts + self._answers.counts

    def add(self, block: Block, effects: BlockEffects, view: StateView) -> None:
        """Take a block, what happened in it and the state after it; raises InvariantBroken."""
        foliage = block.header.foliage
        for transaction in block.transactions:
            body = transaction.body
            self._purses.add(body.sender, -body.fee)
            self.tasks.add(body, foliage.height)
            self._answers.add(body, foliage.timestamp_ms)
        self.tasks.end_block(effects.events, view, foliage.height)
        self._answers.check(view, foliage.height)
        self._purses.check(view, foliage.height)
