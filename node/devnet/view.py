"""What a person sees of a running development network: a live table on a terminal, else a line for each new block.

It shows what the nodes' statuses say and computes nothing but shares and intervals.
"""

import json
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from chain.primitives import ATOMS_PER_COIN, U256_MAX
from node.cli.output import format_coins
from node.devnet.auditors import Audited
from node.devnet.holders import Holder
from node.devnet.verdict import Finding
from node.options import OutputOptions
from node.rpc.views import StatusView


class NetworkView:
    """Shows statuses as they come and findings at the end."""

    def __init__(self, output: OutputOptions, console: Console | None = None) -> None:
        """Use a live table only on a terminal and only when lines were not asked for."""
        self._output = output
        self._console = console or Console()
        is_live = self._console.is_terminal and not output.plain and not output.json
        self._live = Live(console=self._console, refresh_per_second=4) if is_live else None
        self._last_height = 0
        self._last_timestamp_ms = 0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def say(self, message: str) -> None:
        """Show one line about what is going on."""
        if self._output.json:
            print(json.dumps({"event": "message", "message": message}), flush=True)
        else:
            self._console.print(message, highlight=False)

    def show(
        self, statuses: list[StatusView], balances: list[int], holders: list[Holder], audited: list[Audited]
    ) -> None:
        """Show the network, atoms and audits by node, and who holds the model; in lines, when its height has grown."""
        best = max(statuses, key=lambda status: int(status.head.total_work))
        if self._live:
            table = _make_table(statuses, balances, audited)
            self._live.update(Group(table, _describe_learning(best), _make_holders(holders)))
            return
        if best.head.height <= self._last_height:
            return
        interval_ms = best.head.timestamp_ms - self._last_timestamp_ms if self._last_height else 0
        blocks = best.head.height - self._last_height
        self._last_height, self._last_timestamp_ms = best.head.height, best.head.timestamp_ms
        facts = get_facts(best, statuses, (balances, holders, audited))
        if self._output.json:
            print(json.dumps({"event": "block"} | asdict(facts)), flush=True)
        else:
            self._console.print(_make_line(facts, interval_ms // blocks), highlight=False, soft_wrap=True)

    def show_findings(self, findings: tuple[Finding, ...]) -> None:
        """Show what was checked at the end."""
        for finding in findings:
            if self._output.json:
                entry = {"event": "finding", "name": finding.name, "good": finding.is_good, "detail": finding.detail}
                print(json.dumps(entry), flush=True)
            else:
                mark = "ok  " if finding.is_good else "FAIL"
                self._console.print(f"{mark} {finding.name}: {finding.detail}", highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What one line says: of the heaviest head, and by node or over all of them."""

    height: int
    hash: str
    expected_macs: int
    round: int
    loss_bits: str
    accuracy: str
    peers: list[int]
    balances_atoms: list[int]
    holders: list[Holder]
    audited: list[Audited]
    tickets_per_s: int
    macs_per_s: int


def get_facts(
    best: StatusView, statuses: list[StatusView], accounts: tuple[list[int], list[Holder], list[Audited]]
) -> NetworkFacts:
    """Return the facts of a moment; `best` is the status with the most work."""
    rates = [status.rates for status in statuses if status.rates]
    return NetworkFacts(
        height=best.head.height,
        hash=best.head.hash,
        expected_macs=compute_expected_macs(best),
        round=best.task.round,
        loss_bits=format_loss(best),
        accuracy=format_accuracy(best),
        peers=[status.peers for status in statuses],
        balances_atoms=accounts[0],
        holders=accounts[1],
        audited=accounts[2],
        tickets_per_s=sum(rate.tickets for rate in rates),
        macs_per_s=sum(rate.macs for rate in rates),
    )


def _make_line(facts: NetworkFacts, interval_ms: int) -> str:
    coins = "/".join(str(atoms // ATOMS_PER_COIN) for atoms in facts.balances_atoms)
    return (
        f"height {facts.height:>4} · {interval_ms / 1000:5.1f} s · difficulty {facts.expected_macs / 1e9:.2f} GMAC · "
        f"round {facts.round} · loss {facts.loss_bits} bits · accuracy {facts.accuracy} · "
        f"peers {'/'.join(map(str, facts.peers))} · coins {coins} · {_describe_holders(facts.holders)} · "
        f"{_describe_audits(facts.audited)} · "
        f"{facts.tickets_per_s} tickets/s, {facts.macs_per_s / 1e9:.1f} GMAC/s"
    )


def _make_table(statuses: list[StatusView], balances: list[int], audited: list[Audited]) -> Table:
    table = Table(title="Mathesis development network", expand=False)
    names = ("node", "height", "tip", "difficulty", "round", "peers", "pool", "coins", "audits", "for")
    for name in (*names, "tickets/s", "GMAC/s"):
        table.add_column(name, justify="right")
    for number, (status, balance, audits) in enumerate(zip(statuses, balances, audited, strict=True), start=1):
        rates = status.rates
        table.add_row(
            str(number),
            str(status.head.height),
            status.head.hash[2:10],
            f"{compute_expected_macs(status) / 1e9:.2f} GMAC",
            str(status.task.round),
            str(status.peers),
            str(status.pool_transactions),
            str(balance // ATOMS_PER_COIN),
            str(audits.proven),
            f"{format_coins(audits.paid_atoms)} coins",
            str(rates.tickets) if rates else "-",
            f"{rates.macs / 1e9:.2f}" if rates else "-",
        )
    return table


def _describe_audits(audited: list[Audited]) -> str:
    proven = "/".join(str(audits.proven) for audits in audited)
    return f"audits {proven} for {format_coins(sum(audits.paid_atoms for audits in audited))} coins"


def _describe_holders(holders: list[Holder]) -> str:
    shares = "/".join(holder.percent for holder in holders)
    income = "/".join(format_coins(holder.claimable_atoms) for holder in holders)
    segments = "/".join("-" if holder.segments is None else str(holder.segments) for holder in holders)
    return f"shares {shares} % · income {income} · settled {segments}"


def _make_holders(holders: list[Holder]) -> Table:
    table = Table(title="Shares of the network's model", expand=False)
    for name in ("holder", "share", "units", "income to claim", "segments settled"):
        table.add_column(name, justify="right")
    for holder in holders:
        segments = "-" if holder.segments is None else str(holder.segments)
        coins = f"{format_coins(holder.claimable_atoms)} coins"
        table.add_row(holder.name, f"{holder.percent} %", f"{holder.units:,}", coins, segments)
    return table


def _describe_learning(status: StatusView) -> str:
    supply = status.supply
    return (
        f"round {status.task.round}: loss {format_loss(status)} bits, accuracy {format_accuracy(status)} · "
        f"pot {int(status.task.pot) // ATOMS_PER_COIN}, treasury {int(supply.treasury) // ATOMS_PER_COIN}, "
        f"burned {int(supply.burned) // ATOMS_PER_COIN} of {int(supply.issued) // ATOMS_PER_COIN} coins issued"
    )


def compute_expected_macs(status: StatusView) -> int:
    """Return the multiply-accumulates that the head's block was expected to cost."""
    return U256_MAX // (int(status.head.target, 16) + 1)


def format_loss(status: StatusView) -> str:
    """Return the held-out loss in bits an example, or a dash before the first settlement."""
    checkpoint = status.task.checkpoint
    return f"{int(checkpoint.heldout_loss) / 2**16 / checkpoint.total:.3f}" if checkpoint.total else "-"


def format_accuracy(status: StatusView) -> str:
    """Return the held-out accuracy, or a dash before the first settlement."""
    checkpoint = status.task.checkpoint
    return f"{100 * checkpoint.correct / checkpoint.total:.1f} %" if checkpoint.total else "-"
