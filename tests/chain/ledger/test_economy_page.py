"""The worked example of docs/economy.md: played on a ledger, and every figure of the page compared."""

import re
from pathlib import Path

from chain.ledger.keys import SUPPLY_KEY
from chain.ledger.subsidy import compute_subsidy_split
from chain.primitives import ATOMS_PER_COIN, Hash
from chain.signature import SigningKey
from chain.transaction import BuyLicence, ClaimIncome, PayModel, TransferShares
from tests.support.economy import get_model, make_dataset, make_model, register_dataset, register_model
from tests.support.hash_training import SEGMENT_MACS
from tests.support.ledger import ALICE, BOB, CAROL, DAVE, PARAMETERS, LedgerChain, make_genesis, settle_round

PAGE = (Path(__file__).parents[3] / "docs" / "economy.md").read_text(encoding="utf-8")
ERIN, FRANK = (SigningKey(bytes([number]) * 32) for number in (31, 32))


def read_figures(header: str) -> dict[str, int]:
    """Return the rows of the table under `header`: atoms by what they are for."""
    table = PAGE.split(f"| {header} | atoms |\n|---|---|\n")[1].split("\n\n")[0]
    return {name: int(atoms.replace(",", "")) for name, atoms in re.findall(r"^\| (.+) \| ([\d,]+) \|$", table, re.M)}


def claim(chain: LedgerChain, key: SigningKey, model: Hash) -> int:
    before = chain.account(key).balance
    chain.mine(chain.sign(key, ClaimIncome(model)), miner=CAROL)
    return chain.account(key).balance - before


def get_treasury(chain: LedgerChain) -> int:
    return chain.view.get_existing(SUPPLY_KEY).treasury


def prepare() -> tuple[LedgerChain, Hash]:
    """Settle the three segments, register the data set and the child, and return the child's name."""
    chain = LedgerChain(make_genesis(PARAMETERS))
    settle_round(chain, ALICE, BOB)
    settle_round(chain, BOB)
    data = register_dataset(chain, ERIN, make_dataset(1, royalty_bp=500))
    terms = make_model(2, (chain.context.task_id,), (data,), author_bp=3_000, licence_price=10 * ATOMS_PER_COIN)
    return chain, register_model(chain, DAVE, terms)


def mine_taxed(chain: LedgerChain, key: SigningKey, action: BuyLicence | PayModel) -> int:
    """Mine a payment and return the treasury's part of it."""
    before = get_treasury(chain)
    chain.mine(chain.sign(key, action), miner=CAROL)
    return get_treasury(chain) - before - compute_subsidy_split(chain.height, PARAMETERS).treasury


def test_the_example_of_the_page() -> None:
    chain, child = prepare()
    task, erin, dave = chain.context.task_id, chain.account(ERIN).balance, chain.account(DAVE).balance
    found = {"treasury": mine_taxed(chain, CAROL, BuyLicence(child, 10 * ATOMS_PER_COIN))}
    found["Erin, for her data set"] = chain.account(ERIN).balance - erin
    found["Dave, as author"] = chain.account(DAVE).balance - dave
    found["the network's model, as parent"] = get_model(chain, task).held
    found["left in the record of Dave's model"] = get_model(chain, child).waiting
    found["Alice, by a claim"] = claim(chain, ALICE, task)
    found["Bob, by a claim"] = claim(chain, BOB, task)
    found["not yet a whole atom for anyone"] = get_model(chain, task).held
    assert found == read_figures("of 10 coins, who gets")
    chain.mine(chain.sign(BOB, TransferShares(task, FRANK.public_key, SEGMENT_MACS)), miner=CAROL)
    found = {"treasury of the second payment": mine_taxed(chain, CAROL, PayModel(task, 3 * ATOMS_PER_COIN))}
    found["Alice, by her second claim"] = claim(chain, ALICE, task)
    found["Bob, by his second claim"] = claim(chain, BOB, task)
    found["Frank, by a claim"] = claim(chain, FRANK, task)
    found["left of both for a later claim"] = get_model(chain, task).held
    assert found == read_figures("of 3 coins, who gets")


def test_the_segment_of_the_page() -> None:
    assert f"A\nsegment of the digits brings {SEGMENT_MACS:,}." in PAGE
