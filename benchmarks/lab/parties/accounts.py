"""What everybody must have, from a chain's blocks alone: the rules of money told again, in fractions, holder by
holder.

Nothing of the ledger is used but its records: subsidy, price, splits, units and income are computed here as
docs/protocol.md says. Blocks do not say which segments were honest; they say what was disputed and who fell silent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from benchmarks.lab.parties.audits import Audits, Segment
from benchmarks.lab.parties.bonds import Bonds
from benchmarks.lab.parties.market import Held, Market, compute_part
from chain.audit import AuditAction, ProveAudit, RegisterAuditor, RetireAuditor
from chain.block import Block
from chain.dispute import AnswerDispute, DemandOpening, DisputeContribution
from chain.genesis import Genesis, Parameters, compute_chain_id, compute_task_id
from chain.primitives import Hash, PublicKey
from chain.ticket import Ticket
from chain.transaction import (
    BuyLicence,
    ClaimIncome,
    CommitContribution,
    PayModel,
    PostBond,
    ProveContribution,
    RegisterDataset,
    RegisterModel,
    ReportEquivocation,
    Transaction,
    Transfer,
    TransferShares,
    WithdrawBond,
)

PERCENT = 45
"""Of a subsidy, to the block's miner and to the pot alike."""
PRICE_MACS = 2**40
REPORTED = 10
"""Who shows two headers of one ticket has one part in so many of what they cost."""


def compute_subsidy(height: int, parameters: Parameters) -> int:
    """Return what the block at `height` issues: two to the minus of half-lives gone by, by the cubic of aserti3-2d."""
    halvings, since = divmod(height - 1, parameters.subsidy_half_life)
    x = (parameters.subsidy_half_life - since) * 65_536 // parameters.subsidy_half_life
    cubic = Fraction(195_766_423_245_049 * x + 971_821_376 * x**2 + 5_127 * x**3 + 2**47, 2**48)
    return int(Fraction(parameters.subsidy * (65_536 + int(cubic)), 2 ** (17 + halvings)))


@dataclass(frozen=True, slots=True)
class Quarrel:
    """An open dispute: what its challenger has locked, until when somebody must move, and who."""

    deposit: int
    deadline: int
    is_last: bool = False
    """Whether an answer ends it."""
    is_answered: bool = False


@dataclass(slots=True)
class Reward:
    """What a block's miner waits for, until the segment that its ticket names is decided."""

    miner: PublicKey
    ticket: Ticket
    atoms: int
    held: tuple[int, Segment] | None = None
    """The round and segment whose dispute it waits for, beyond its round."""

    @property
    def segment(self) -> Segment:
        """The segment that the ticket names."""
        return (self.miner, self.ticket.index)


@dataclass(slots=True)
class Accounts:
    """Everything that money is in after the blocks so far."""

    genesis: Genesis
    macs: int
    """Multiply-accumulates of a segment of the task."""
    balances: dict[PublicKey, int] = field(default_factory=dict)
    issued: int = 0
    burned: int = 0
    treasury: int = 0
    pot: int = 0
    price: int = 0
    round: int = 0
    round_start: int = 0
    commits: dict[Segment, tuple[int, int]] = field(default_factory=dict)
    """Of the running round, not expired yet: height and anchor."""
    proven: set[Segment] = field(default_factory=set)
    rewards: dict[int, Reward] = field(default_factory=dict)
    """By height: what is not decided yet of blocks."""
    quarrels: dict[tuple[int, Segment, PublicKey], Quarrel] = field(default_factory=dict)
    """Open disputes by round, segment and challenger, in the order of their deadlines."""
    held: dict[tuple[int, Segment], int] = field(default_factory=dict)
    """Segments that were disputed when their round ended, and their anchors."""
    lost: dict[PublicKey, int] = field(default_factory=dict)
    """Deposits that each miner has lost."""
    counts: dict[str, int] = field(default_factory=dict)
    audits: Audits = field(init=False)
    miners: Bonds = field(init=False)
    market: Market = field(init=False)

    def __post_init__(self) -> None:
        for allocation in self.genesis.allocations:
            self.credit(allocation.account, allocation.amount)
        self.miners = Bonds(self.genesis.parameters)
        for miner in self.genesis.miners:
            self.credit(miner, -self.miners.post(0, miner))
        self.price = self.genesis.parameters.first_price
        self.audits = Audits(self.genesis.parameters, self.chain_id, self.task)
        self.market = Market(self.chain_id, self.task, self.credit)

    @property
    def chain_id(self) -> Hash:
        """The network's name."""
        return compute_chain_id(self.genesis)

    @property
    def task(self) -> Hash:
        """The name of the network's own model."""
        return compute_task_id(self.chain_id, self.genesis.task)

    @property
    def deposits(self) -> int:
        """Atoms locked by contributions and by their challengers."""
        locked = (len(self.commits) + len(self.held)) * self.genesis.parameters.deposit
        return locked + sum(quarrel.deposit for quarrel in self.quarrels.values())

    @property
    def bonds(self) -> int:
        """Atoms locked as bonds, by miners and by auditors."""
        return self.miners.locked + self.audits.locked

    @property
    def models(self) -> dict[Hash, Held]:
        """What each model holds, and for whom."""
        return self.market.models

    def credit(self, account: PublicKey, amount: int) -> None:
        """Add to a balance; less than nothing takes away."""
        self.balances[account] = self.balances.get(account, 0) + amount

    def add(self, block: Block) -> None:
        """Take in the next block."""
        foliage, ticket = block.header.foliage, block.header.trunk.ticket
        fees = 0
        self.audits.beacons[foliage.height] = block.header.trunk.beacon
        for transaction in block.transactions:
            fees += transaction.body.fee
            self._apply(foliage.height, transaction)
        subsidy = compute_subsidy(foliage.height, self.genesis.parameters)
        part = subsidy * PERCENT // 100
        self.issued += subsidy
        self.pot += part
        self.treasury += subsidy - 2 * part
        self.rewards[foliage.height] = Reward(foliage.miner, ticket, part + fees)
        self.audits.draw(foliage.height, self.round, set(self.commits))
        self._expire(foliage.height)
        self._decide(foliage.height)
        if foliage.height == self.round_start + self.genesis.parameters.round_blocks:
            self._settle(foliage.height)

    def _apply(self, height: int, transaction: Transaction) -> None:
        sender, action = transaction.body.sender, transaction.body.action
        self.credit(sender, -transaction.body.fee)
        match action:
            case Transfer(recipient=recipient, amount=amount):
                self.credit(sender, -amount)
                self.credit(recipient, amount)
            case CommitContribution(index=index, anchor_height=anchor):
                self.credit(sender, -self.genesis.parameters.deposit)
                self.commits[sender, index] = (height, anchor)
                self.audits.commit(height, sender, action)
            case ProveContribution(index=index):
                self.proven.add((sender, index))
            case DisputeContribution() | AnswerDispute():
                self._quarrel(height, sender, action)
            case RegisterAuditor() | RetireAuditor() | ProveAudit():
                self._audit(height, sender, action)
            case RegisterDataset() | RegisterModel() | TransferShares() | BuyLicence() | PayModel() | ClaimIncome():
                self.treasury += self.market.trade(sender, action)
            case PostBond():
                self.credit(sender, -self.miners.post(height, sender))
            case WithdrawBond():
                self.credit(sender, self.miners.withdraw(height, sender))
            case ReportEquivocation():
                self._punish(action)
            case _:
                raise AssertionError(f"found {type(action).__name__}, expected no party to send one")

    def _audit(self, height: int, sender: PublicKey, action: AuditAction) -> None:
        match action:
            case RegisterAuditor(amount=amount):
                self.credit(sender, -amount)
                self.audits.register(height, sender, amount)
            case RetireAuditor():
                self.credit(sender, self.audits.retire(height, sender))
            case ProveAudit():
                self.audits.prove(action.round, (action.miner, action.index), sender)

    def _punish(self, report: ReportEquivocation) -> None:
        """Take the bond of who signed two headers for one ticket, and what waits for it: a tenth is the reporter's."""
        header = report.first
        lost = self.miners.burn(header.foliage.height, header.foliage.miner)
        reward = self.rewards.get(header.foliage.height)
        if reward is not None and (reward.miner, reward.ticket) == (header.foliage.miner, header.trunk.ticket):
            lost, reward.atoms = lost + reward.atoms, 0
        self.credit(report.recipient, lost // REPORTED)
        self._burn("equivocations", lost - lost // REPORTED)

    def _quarrel(self, height: int, sender: PublicKey, action: DisputeContribution | AnswerDispute) -> None:
        deadline = height + self.genesis.parameters.dispute_window
        if isinstance(action, DisputeContribution):
            key = (action.round, (action.miner, action.index), sender)
            before = self.quarrels.pop(key, None)
            self.credit(sender, -action.deposit)
            deposit = before.deposit if before else action.deposit
            self.quarrels[key] = Quarrel(deposit, deadline, isinstance(action.demand, DemandOpening))
            return
        key = (action.round, (action.miner, action.index), action.challenger)
        asked = self.quarrels.pop(key)
        if asked.is_last:
            self._refuse(key, asked)
        else:
            self.quarrels[key] = Quarrel(asked.deposit, deadline, is_answered=True)

    def _decide(self, height: int) -> None:
        """End the disputes in which somebody has fallen silent."""
        for key, quarrel in [each for each in self.quarrels.items() if each[1].deadline == height]:
            del self.quarrels[key]
            number, segment, challenger = key
            is_running = number == self.round and segment in self.commits
            is_vouched = bool(self.audits.list_proven(number, segment))
            if not is_running and (number, segment) not in self.held and not is_vouched:
                self.credit(challenger, quarrel.deposit)
            elif quarrel.is_answered:
                self._refuse(key, quarrel)
            else:
                self._slash(height, key, quarrel)

    def _refuse(self, key: tuple[int, Segment, PublicKey], quarrel: Quarrel) -> None:
        """Take a challenger's deposit: half is the miner's."""
        number, segment, _ = key
        self.credit(segment[0], quarrel.deposit // 2)
        self._burn("disputes refused", quarrel.deposit - quarrel.deposit // 2)
        if (number, segment) in self.held and not any(each[:2] == (number, segment) for each in self.quarrels):
            self._settle_late(number, segment, self.held.pop((number, segment)))

    def _slash(self, height: int, key: tuple[int, Segment, PublicKey], quarrel: Quarrel) -> None:
        """Take a miner's deposit, unless it has burned, and the bonds of who vouched: half is the challenger's."""
        number, segment, challenger = key
        self.credit(challenger, quarrel.deposit)
        is_locked = (number, segment) in self.held or (number == self.round and segment in self.commits)
        lost = [self.genesis.parameters.deposit] if is_locked else []
        for amount in lost + self.audits.fall(height, number, segment):
            self.credit(challenger, amount // 2)
            self.burned += amount - amount // 2
        self._count("segments slashed")
        self.lost[segment[0]] = self.lost.get(segment[0], 0) + is_locked
        self.held.pop((number, segment), None)
        for reward in self._take_rewards((number, segment)):
            self._burn("block rewards burned", reward.atoms)
        if number == self.round:
            self.commits.pop(segment, None)

    def _settle_late(self, number: int, segment: Segment, anchor: int) -> None:
        self.credit(segment[0], self.genesis.parameters.deposit)
        self._pay([segment[0]], self.audits.list_proven(number, segment))
        self._mint(segment[0])
        self.models[self.task].give(0)
        for reward in self._take_rewards((number, segment)):
            self._reward(reward, is_paid=reward.ticket.anchor_height == anchor)

    def _take_rewards(self, held: tuple[int, Segment] | None) -> list[Reward]:
        """Take out what waits for a dispute about a segment, or for the round's end."""
        heights = [height for height, reward in self.rewards.items() if reward.held == held]
        return [self.rewards.pop(height) for height in heights]

    def _mint(self, miner: PublicKey) -> None:
        self.market.mint(miner, self.macs)
        self._count("segments settled")

    def _reward(self, reward: Reward, *, is_paid: bool) -> None:
        if is_paid:
            self.credit(reward.miner, reward.atoms)
            self._count("block rewards paid")
        else:
            self._burn("block rewards burned", reward.atoms)

    def _expire(self, height: int) -> None:
        parameters = self.genesis.parameters
        age = parameters.challenge_delay + parameters.proof_window
        for segment, (committed, _) in list(self.commits.items()):
            if segment not in self.proven and height - committed >= age:
                self._lose("expired", segment)

    def _settle(self, height: int) -> None:
        parameters = self.genesis.parameters
        for segment in {each[1] for each in self.quarrels if each[0] == self.round} & set(self.commits):
            self.held[self.round, segment] = self.commits.pop(segment)[1]
            for reward in self.rewards.values():
                if reward.segment == segment and reward.held is None:
                    reward.held = (self.round, segment)
        held = [segment for number, segment in self.held if number == self.round]
        for segment in [*self.commits, *held]:
            disputed_by = {each[2] for each in self.quarrels if each[:2] == (self.round, segment)}
            self.burned += self.audits.miss(height, self.round, segment, disputed_by)
        settled, pot = sorted(self.commits), self.pot
        audited = [auditor for segment in settled for auditor in self.audits.list_proven(self.round, segment)]
        total = self._pay([miner for miner, _ in settled], audited)
        for miner, _ in settled:
            self.credit(miner, parameters.deposit)
            self._mint(miner)
        self.models[self.task].give(0)
        if settled:
            step, fitting = max(1, self.price // 8), int(Fraction(pot * PRICE_MACS, total))
            self.price = min(max(fitting, self.price - step, 1), self.price + step, 2**64 - 1)
        for reward in self._take_rewards(None):
            anchor = self.commits.get(reward.segment, (0, -1))[1]
            self._reward(reward, is_paid=anchor == reward.ticket.anchor_height)
        self.round, self.round_start = self.round + 1, height
        self.commits, self.proven = {}, set()

    def _pay(self, miners: list[PublicKey], auditors: list[PublicKey]) -> int:
        """Pay for segments and audits from the pot, by price or where that is too much by share; return all MACs."""
        part = compute_part(self.macs, self.genesis.parameters.audit_pay_bp)
        total, pot = len(miners) * self.macs + len(auditors) * part, self.pot
        is_enough = Fraction(self.price * total, PRICE_MACS) < pot + 1
        for account, macs in [(miner, self.macs) for miner in miners] + [(auditor, part) for auditor in auditors]:
            paid = int(Fraction(self.price * macs, PRICE_MACS) if is_enough else Fraction(pot * macs, total))
            self.credit(account, paid)
            self.pot -= paid
        if auditors:
            self._count("audits paid")
        return total

    def _lose(self, what: str, segment: Segment) -> None:
        """Burn the deposit of a segment that will not settle."""
        del self.commits[segment]
        self.lost[segment[0]] = self.lost.get(segment[0], 0) + 1
        self._burn(f"segments {what}", self.genesis.parameters.deposit)

    def _burn(self, what: str, amount: int) -> None:
        self.burned += amount
        self._count(what)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def count_blocks(genesis: Genesis, macs: int, blocks: Iterable[Block]) -> Accounts:
    """Return what everybody must have after all blocks from height 1 on."""
    accounts = Accounts(genesis, macs)
    for block in blocks:
        accounts.add(block)
    return accounts
