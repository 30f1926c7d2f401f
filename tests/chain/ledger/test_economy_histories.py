"""Random histories of the economy, with rounds and forks, against an oracle that visits every holder.

After each block: no atom is made or lost (the chain under test audits that itself), units add up, whoever is owed is
owed what the oracle says but for the rounding of the counter, and a fork replayed from genesis gives the same roots.
"""

from copy import deepcopy
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from benchmarks.lab.economy.oracle import TAX_BP, WHOLE_BP, Oracle, OracleModel
from chain.errors import InvalidBlock
from chain.genesis import Allocation, Genesis
from chain.ledger.apply import make_draft
from chain.ledger.economy_records import Model, Shares
from chain.ledger.keys import MODEL_PREFIX, SHARES_PREFIX, SUPPLY_KEY
from chain.ledger.records import Supply
from chain.ledger.registry import DEPTH_MAX, GENESIS_ROYALTY_BP, NOBODY, compute_dataset_id, compute_model_id
from chain.ledger.shares import FRACTION_BITS, compute_touched
from chain.ledger.subsidy import compute_subsidy_split
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.transaction import Action, BuyLicence, ClaimIncome, PayModel, Transaction, TransferShares
from tests.support.economy import compute_content_root, get_model, get_shares, make_dataset, make_model
from tests.support.hash_training import SEGMENT_MACS
from tests.support.ledger import ALICE, BOB, CAROL, FUNDS, PARAMETERS, LedgerChain, make_genesis

MINERS = (ALICE, BOB, CAROL)
OTHERS = tuple(SigningKey(bytes([number]) * 32) for number in range(21, 24))
KEYS = (*MINERS, *OTHERS)
SHORT = replace(PARAMETERS, commit_blocks=1, challenge_delay=1, proof_window=1, audit_blocks=1)
"""Rounds of four blocks: commits in the first, openings in the third."""

basis_points = st.sampled_from((0, 1, 333, 2_500, 5_000, 9_900, 10_000))
amounts = st.sampled_from((1, 2, 99, 100, 10_001, 10**9 + 7)) | st.integers(1, 10**10)
players, contents = st.sampled_from(KEYS), st.integers(0, 5)


def make_funded_genesis() -> Genesis:
    genesis = make_genesis(SHORT)
    return replace(genesis, allocations=(*genesis.allocations, *(Allocation(key.public_key, FUNDS) for key in OTHERS)))


class EconomyMachine(RuleBasedStateMachine):
    """A chain and its oracle; every rule mines one block or goes back some."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = LedgerChain(make_funded_genesis())
        self.task = self.chain.context.task_id
        genesis_terms = get_model(self.chain, self.task).terms
        first = OracleModel(NOBODY, 0, GENESIS_ROYALTY_BP, 0, None, genesis_terms.datasets)
        self.oracle = Oracle({self.task: first}, {genesis_terms.datasets[0]: (NOBODY, 0)})
        self.willing: tuple[SigningKey, ...] = (ALICE,)
        self.contributors: tuple[SigningKey, ...] = ()
        self.past: list[tuple[Hash, Oracle, tuple[SigningKey, ...]]] = [self._save()]

    def _save(self) -> tuple[Hash, Oracle, tuple[SigningKey, ...]]:
        return self.chain.root, deepcopy(self.oracle), self.contributors

    def _mine(self, key: SigningKey | None = None, action: Action | None = None) -> None:
        """Mine a block with an action, and with the commits or openings that are due in it."""
        place = self.chain.height - self.chain.task.start_height
        due: list[Transaction] = []
        if place == 0:
            self.contributors = self.willing
            due = [self.chain.sign(miner, self.chain.commit(miner)) for miner in self.contributors]
        if place == 2:
            due = [self.chain.sign(miner, self.chain.prove(miner)) for miner in self.contributors]
        if key is not None and action is not None:
            # Who contributes in this block too acts behind that.
            later = sum(transaction.body.sender == key.public_key for transaction in due)
            due.append(self.chain.sign(key, action, nonce=self.chain.account(key).nonce + later))
        self.chain.mine(*due)
        if self.chain.height == self.chain.task.start_height:
            self.oracle.mint(self.task, tuple(sorted(k.public_key for k in self.contributors)), SEGMENT_MACS)
            self.contributors = ()
        self.past.append(self._save())

    def _refuse(self, key: SigningKey, action: Action, rule_name: str) -> None:
        with pytest.raises(InvalidBlock) as refusal:
            self.chain.execute(self.chain.draft(), self.chain.sign(key, action))
        assert refusal.value.rule == rule_name

    def _pick(self, data: st.DataObject) -> Hash:
        # The network's model, which alone has holders, as often as all others together.
        return data.draw(st.just(self.task) | st.sampled_from(sorted(self.oracle.models)))

    @rule(chosen=st.sets(st.sampled_from(range(3))))
    def change_contributors(self, chosen: set[int]) -> None:
        self.willing = tuple(MINERS[number] for number in sorted(chosen))

    @rule(blocks=st.integers(1, 4))
    def wait(self, blocks: int) -> None:
        for _ in range(blocks):
            self._mine()

    @rule(owner=players, content=contents, royalty_bp=basis_points)
    def register_dataset(self, owner: SigningKey, content: int, royalty_bp: int) -> None:
        terms, root = make_dataset(content, royalty_bp), compute_content_root(content)
        if root in self.oracle.contents:
            self._refuse(owner, terms, "content-known")
            return
        name = compute_dataset_id(self.chain.context.chain_id, owner.public_key, terms)
        self.oracle.contents.add(root)
        self.oracle.datasets[name] = (owner.public_key, royalty_bp)
        self._mine(owner, terms)

    @rule(data=st.data(), owner=players, content=contents, parts=st.tuples(basis_points, basis_points))
    def register_model(self, data: st.DataObject, owner: SigningKey, content: int, parts: tuple[int, int]) -> None:
        royalty_bp, author_bp = (min(part, WHOLE_BP - TAX_BP) for part in parts)
        parent = data.draw(st.none() | st.just(self._pick(data)))
        used = data.draw(st.sets(st.sampled_from(sorted(self.oracle.datasets)), max_size=2))
        price = data.draw(st.sampled_from((0, 1, 12_345)))
        terms = make_model(content, () if parent is None else (parent,), tuple(used), royalty_bp, author_bp, price)
        model = OracleModel(owner.public_key, author_bp, royalty_bp, price, parent, terms.datasets)
        model.depth = 0 if parent is None else self.oracle.models[parent].depth + 1
        if terms.checkpoint_root in self.oracle.contents:
            self._refuse(owner, terms, "content-known")
        elif model.depth >= DEPTH_MAX:
            self._refuse(owner, terms, "model-depth")
        elif sum(self.oracle.list_owed_bp(model)) > WHOLE_BP:
            self._refuse(owner, terms, "income-parts")
        else:
            self.oracle.contents.add(terms.checkpoint_root)
            self.oracle.models[compute_model_id(self.chain.context.chain_id, owner.public_key, terms)] = model
            self._mine(owner, terms)

    @rule(data=st.data(), payer=players, amount=amounts)
    def pay(self, data: st.DataObject, payer: SigningKey, amount: int) -> None:
        name = self._pick(data)
        self.oracle.pay(payer.public_key, name, amount)
        self._mine(payer, PayModel(name, amount))

    @rule(data=st.data(), buyer=players)
    def buy(self, data: st.DataObject, buyer: SigningKey) -> None:
        name = self._pick(data)
        price, mark = self.oracle.models[name].price, (name, buyer.public_key)
        if not price:
            self._refuse(buyer, BuyLicence(name, 1), "licence-free")
        elif mark in self.oracle.licences:
            self._refuse(buyer, BuyLicence(name, price), "licence-held")
        else:
            self.oracle.licences.add(mark)
            self.oracle.pay(buyer.public_key, name, price)
            self._mine(buyer, BuyLicence(name, price))

    @rule(data=st.data(), recipient=players, share=st.sampled_from((0, 1, 2, 2, 2, 3)))
    def transfer(self, data: st.DataObject, recipient: SigningKey, share: int) -> None:
        units_of = self.oracle.models[self.task].units
        holders = [key for key in KEYS if units_of.get(key.public_key)]
        sender = data.draw(st.sampled_from(holders or KEYS))
        held = self.oracle.models[self.task].units.get(sender.public_key, 0)
        units = (1, held // 3, held, held + 1)[share] or 1
        action = TransferShares(self.task, recipient.public_key, units)
        if units > held:
            self._refuse(sender, action, "units")
            return
        self.oracle.models[self.task].move(sender.public_key, recipient.public_key, units)
        self._mine(sender, action)

    @rule(holder=players)
    def claim(self, holder: SigningKey) -> None:
        action, account = ClaimIncome(self.task), holder.public_key
        due = get_shares(self.chain, self.task, account).earned
        if not due:
            self._refuse(holder, action, "income-none")
            return
        self.oracle.credit(account, due)
        self.oracle.models[self.task].owed[account] -= due
        self._mine(holder, action)

    @precondition(lambda self: len(self.past) > 2)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        """Go back some blocks: what is left, replayed from genesis, has the roots it had."""
        height = self.chain.height - data.draw(st.integers(1, min(6, self.chain.height - 1)))
        replayed = LedgerChain(self.chain.genesis)
        replayed.content = self.chain.content
        for block, (root, _, _) in zip(self.chain.blocks[:height], self.past[1:], strict=False):
            effects = replayed.apply(block)
            replayed._advance(make_draft(block), block, effects)
            assert replayed.root == root
        self.chain, self.past = replayed, self.past[: height + 1]
        _, oracle, self.contributors = self.past[height]
        self.oracle = deepcopy(oracle)

    @invariant()
    def units_and_atoms_add_up(self) -> None:
        found: dict[Hash, list[tuple[PublicKey, Shares]]] = {name: [] for name in self.oracle.models}
        for key, shares in self.chain.view.iter_records(SHARES_PREFIX, Shares):
            found[Hash(key[:32])].append((PublicKey(key[32:]), shares))
        for name, expected in self.oracle.models.items():
            model = get_model(self.chain, name)
            holders = {key: compute_touched(model, shares) for key, shares in found[name]}
            assert {key: s.units for key, s in holders.items() if s.units} == {
                key: units for key, units in expected.units.items() if units
            }
            assert model.units == sum(shares.units for shares in holders.values()) == SEGMENT_MACS * expected.mints
            owed = {key: (s.earned << FRACTION_BITS) + s.fraction for key, s in holders.items()}
            shared = sum(owed.values()) + model.remainder
            assert (model.held - model.waiting) << FRACTION_BITS == shared
            assert model.waiting == expected.waiting
            # A counter is rounded once for each number of units that there was, and each unit bears that.
            bound = Fraction((expected.mints + 1) * model.units, 1 << FRACTION_BITS)
            for key in owed.keys() | expected.owed.keys():
                exact = expected.owed.get(key, Fraction(0))
                assert abs(Fraction(owed.get(key, 0), 1 << FRACTION_BITS) - exact) <= bound

    @invariant()
    def accounts_have_what_they_are_due(self) -> None:
        for key in OTHERS:
            assert self.chain.account(key).balance == FUNDS + self.oracle.gained.get(key.public_key, 0)
        issued = sum(compute_subsidy_split(height, SHORT).treasury for height in range(1, self.chain.height + 1))
        supply: Supply = self.chain.view.get_existing(SUPPLY_KEY)
        assert supply.treasury == issued + self.oracle.taxed
        assert {name for name, _ in self.chain.view.iter_records(MODEL_PREFIX, Model)} == set(self.oracle.models)


EconomyMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEconomyHistories = EconomyMachine.TestCase
