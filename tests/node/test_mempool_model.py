"""The pool beside a naive one that sorts and scans everything: after any history both hold and order the same."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chain.errors import InvalidTransaction
from chain.ledger.weight import compute_weight
from chain.packed import PackedTransaction, pack_transaction
from chain.primitives import ZERO_HASH, Hash, PublicKey, Signature
from chain.transaction import ProveContribution, Transaction, TransactionBody, Transfer
from node.mempool import Mempool, PoolBounds

BOUNDS = PoolBounds(bytes_max=1_500, account_transactions_max=5, wait_blocks_max=6, wait_ms_max=1_000)
ACCOUNTS = tuple(PublicKey(bytes([number + 1]) * 32) for number in range(6))
FEES = st.sampled_from((0, 10, 11, 12, 50, 100, 1_000, 100_000))


@dataclass
class Waiting:
    packed: PackedTransaction
    height: int
    time_ms: int

    @property
    def sender(self) -> PublicKey:
        return self.packed.transaction.body.sender

    @property
    def nonce(self) -> int:
        return self.packed.transaction.body.nonce

    @property
    def fee(self) -> int:
        return self.packed.transaction.body.fee

    @property
    def rate(self) -> int:
        return self.fee * 1000 // compute_weight(self.packed.transaction, len(self.packed.data))


@dataclass
class NaivePool:
    """A list, and a scan for every question."""

    entries: list[Waiting] = field(default_factory=list)
    nonces: dict[PublicKey, int] = field(default_factory=dict)

    def size_bytes(self) -> int:
        return sum(len(entry.packed.data) for entry in self.entries)

    def of(self, sender: PublicKey) -> list[Waiting]:
        return sorted((entry for entry in self.entries if entry.sender == sender), key=lambda entry: entry.nonce)

    def worth(self, entry: Waiting) -> int:
        return min([entry.rate, *(each.rate for each in self.of(entry.sender) if each.nonce < entry.nonce)])

    def add(self, new: Waiting, account_nonce: int) -> str:
        if any(entry.packed.hash == new.packed.hash for entry in self.entries):
            return "already_known"
        if not account_nonce <= new.nonce < account_nonce + BOUNDS.account_transactions_max:
            return "nonce"
        before = [entry for entry in self.of(new.sender) if entry.nonce == new.nonce]
        if before and (new.rate <= before[0].rate * 110 // 100 or new.fee < before[0].fee):
            return "replacement-fee"
        kept, self.entries = self.entries, [entry for entry in self.entries if entry not in before]
        while self.size_bytes() + len(new.packed.data) > BOUNDS.bytes_max:
            tails = [self.of(sender)[-1] for sender in ACCOUNTS if self.of(sender)]
            cheapest = min(tails, key=lambda tail: (self.worth(tail), tail.packed.hash), default=None)
            if cheapest is None or self.worth(cheapest) >= self.worth(new):
                self.entries = kept
                return "pool-full"
            self.entries = [entry for entry in self.entries if entry is not cheapest]
        self.entries.append(new)
        self.nonces[new.sender] = account_nonce
        return "replaced" if before else "added"

    def order(self) -> list[Hash]:
        taken: list[Hash] = []
        following = dict(self.nonces)
        while True:
            ready = [entry for entry in self.entries if entry.nonce == following.get(entry.sender)]
            if not ready:
                return taken
            best = min(ready, key=lambda entry: (-entry.rate, entry.packed.hash))
            taken.append(best.packed.hash)
            following[best.sender] += 1


def compute_cost(packed: PackedTransaction) -> int:
    return packed.transaction.body.fee + len(packed.data)


class PoolMachine(RuleBasedStateMachine):
    """Offers, heads that come and go, drops and the passing of time."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.naive = Mempool(BOUNDS), NaivePool()
        self.chain = dict.fromkeys(ACCOUNTS, 0)
        self.height, self.time_ms = 0, 0

    def offer(self, packed: PackedTransaction) -> None:
        account_nonce = self.chain[packed.transaction.body.sender]
        expected = self.naive.add(Waiting(packed, self.height, self.time_ms), account_nonce)
        try:
            found = self.pool.add(packed, account_nonce, self.time_ms, compute_cost(packed)).name.lower()
        except InvalidTransaction as error:
            found = error.rule
        assert found == expected

    @rule(account=st.sampled_from(ACCOUNTS), ahead=st.integers(-1, 6), fee=FEES, amount=st.integers(1, 2))
    def offer_transfer(self, account: PublicKey, ahead: int, fee: int, amount: int) -> None:
        body = TransactionBody(account, max(0, self.chain[account] + ahead), fee, Transfer(ACCOUNTS[0], amount))
        self.offer(pack_transaction(Transaction(body, Signature(bytes(64)))))

    @rule(account=st.sampled_from(ACCOUNTS), ahead=st.integers(0, 4), fee=FEES, size=st.integers(1, 1_500))
    def offer_proof(self, account: PublicKey, ahead: int, fee: int, size: int) -> None:
        action = ProveContribution(ZERO_HASH, 0, 0, (bytes(size),))
        body = TransactionBody(account, self.chain[account] + ahead, fee * 100, action)
        self.offer(pack_transaction(Transaction(body, Signature(bytes(64)))))

    @rule(steps=st.dictionaries(st.sampled_from(ACCOUNTS), st.integers(-2, 3), max_size=4), wait_ms=st.integers(0, 400))
    def move_head(self, steps: dict[PublicKey, int], wait_ms: int) -> None:
        self.height, self.time_ms = self.height + 1, self.time_ms + wait_ms
        for account, step in steps.items():
            self.chain[account] = max(0, self.chain[account] + step)
        touched = {account: self.chain[account] for account in steps}
        self.pool.on_head(touched, self.height, self.time_ms)
        self.naive.nonces |= touched
        self.naive.entries = [
            entry
            for entry in self.naive.entries
            if entry.nonce >= self.chain[entry.sender]
            and self.height - entry.height < BOUNDS.wait_blocks_max
            and self.time_ms - entry.time_ms < BOUNDS.wait_ms_max
        ]

    @rule(data=st.data())
    def drop_one(self, data: st.DataObject) -> None:
        if self.naive.entries:
            entry = data.draw(st.sampled_from(self.naive.entries))
            self.pool.drop(entry.packed.hash)
            self.naive.entries = [other for other in self.naive.entries if other is not entry]

    @rule()
    def end_a_round(self) -> None:
        self.pool.drop_passing(lambda _transaction: True)
        kept = [e for e in self.naive.entries if isinstance(e.packed.transaction.body.action, Transfer)]
        self.naive.entries = kept

    @invariant()
    def holds_the_same(self) -> None:
        assert len(self.pool) == len(self.naive.entries)
        assert all(self.pool.get(entry.packed.hash) is entry.packed for entry in self.naive.entries)
        assert self.pool.size_bytes == self.naive.size_bytes() <= BOUNDS.bytes_max

    @invariant()
    def orders_the_same(self) -> None:
        assert [packed.hash for packed in self.pool.iter_candidates()] == self.naive.order()

    @invariant()
    def counts_the_same(self) -> None:
        for account in ACCOUNTS:
            waiting = {entry.nonce for entry in self.naive.of(account)}
            following = self.chain[account]
            while following in waiting:
                following += 1
            assert self.pool.compute_next_nonce(account, self.chain[account]) == following
            for left_out in (*waiting, following):
                cost = sum(compute_cost(entry.packed) for entry in self.naive.of(account) if entry.nonce != left_out)
                assert self.pool.compute_waiting_cost(account, left_out) == cost


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestPool = PoolMachine.TestCase
