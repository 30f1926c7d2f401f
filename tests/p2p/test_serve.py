"""Transactions of the pool travel many to a message: served in a row, bounded, read up to the first unasked one."""

from collections import deque
from dataclasses import replace

from chain.codec import encode
from chain.hashing import tagged_hash
from chain.packed import PackedTransaction, pack_transaction
from chain.primitives import Hash, PublicKey
from chain.transaction import TRANSACTION_BYTES_MAX
from p2p.actions import Charge, DeliverTransaction, Question
from p2p.limits import Limits
from p2p.messages import (
    TRANSACTIONS_MAX,
    GetHeaders,
    Headers,
    Inventory,
    Item,
    ItemKind,
    NotFound,
    TransactionMessage,
    encode_frame,
)
from p2p.relay import Relay
from p2p.score import Fault
from p2p.serve import Server
from tests.support.scripted_chain import GENESIS, ScriptedChain, make_transfer

ANN = PublicKey(b"a" * 32)
TRANSFERS = tuple(make_transfer(nonce) for nonce in range(100))
NAMES = tuple(Item(ItemKind.TRANSACTION, pack_transaction(transfer).hash) for transfer in TRANSFERS)
DATAS = tuple(encode(transfer) for transfer in TRANSFERS)
STRANGER = Item(ItemKind.TRANSACTION, tagged_hash("test.stranger"))


class HeavyChain(ScriptedChain):
    """A pool in which every name stands for a transaction of one size."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.data = bytes(size_bytes)

    def get_transaction(self, transaction_hash: Hash) -> PackedTransaction | None:
        return replace(pack_transaction(TRANSFERS[0]), data=self.data, hash=transaction_hash)


def make_full_chain() -> ScriptedChain:
    chain = ScriptedChain()
    for transfer in TRANSFERS:
        chain.add_transaction(transfer)
    return chain


def serve(chain: ScriptedChain, questions: tuple[Question, ...]) -> list[object]:
    waiting, server = deque(questions), Server(chain, 5)
    answers: list[object] = []
    while waiting:
        answers.append(server.answer_next(waiting))
    return answers


def test_transactions_in_a_row_go_together_and_every_question_has_its_answer() -> None:
    assert serve(make_full_chain(), NAMES) == [TransactionMessage(DATAS[:64]), TransactionMessage(DATAS[64:])]
    assert TRANSACTIONS_MAX == 64
    mixed = (NAMES[0], NAMES[1], STRANGER, NAMES[2], GetHeaders((GENESIS,)), NAMES[3])
    assert serve(make_full_chain(), mixed) == [
        TransactionMessage(DATAS[:2]),
        NotFound((STRANGER,)),
        TransactionMessage(DATAS[2:3]),
        Headers(()),
        TransactionMessage(DATAS[3:4]),
    ]


def test_any_transactions_that_go_together_fit_in_a_frame() -> None:
    for size_bytes in (1_025, 60_000, TRANSACTION_BYTES_MAX):
        answers = serve(HeavyChain(size_bytes), NAMES)
        assert all(isinstance(each, TransactionMessage) and encode_frame(each) for each in answers)
        assert sum(len(each.transactions) for each in answers if isinstance(each, TransactionMessage)) == len(NAMES)


def make_asking_relay(names: tuple[Item, ...]) -> Relay:
    relay = Relay(ScriptedChain(), Limits(), Hash(b"s" * 32))
    relay.on_established(ANN)
    relay.on_message(ANN, Inventory(names), 0)
    relay.poll(0)
    return relay


def test_all_transactions_of_a_message_are_judged() -> None:
    relay = make_asking_relay(NAMES)
    relay.on_message(ANN, TransactionMessage(DATAS[:64]), 1)
    assert [each.hash for each in relay.poll(1) if isinstance(each, DeliverTransaction)] == [
        item.hash for item in NAMES[:64]
    ]


def test_behind_a_transaction_that_was_not_asked_for_nothing_is_read() -> None:
    relay = make_asking_relay(NAMES[:3])
    relay.on_message(ANN, TransactionMessage((DATAS[0], DATAS[50], b"\x90", DATAS[51], DATAS[1])), 1)
    actions = relay.poll(1)
    assert [each.hash for each in actions if isinstance(each, DeliverTransaction)] == [NAMES[0].hash]
    assert [each.fault for each in actions if isinstance(each, Charge)] == [Fault.UNSOLICITED]


def test_a_message_without_transactions_breaks_the_protocol() -> None:
    relay = make_asking_relay(NAMES[:1])
    relay.on_message(ANN, TransactionMessage(()), 1)
    assert [each.fault for each in relay.poll(1) if isinstance(each, Charge)] == [Fault.PROTOCOL]
