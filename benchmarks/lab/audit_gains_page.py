"""The page of profit against detection: every strategy, computed and simulated, and from which deposit on it loses.

The numbers are `benchmarks.lab.audit_gains`'; here they are put into tables.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.lab.audit_gains import (
    AUDITORS,
    CHEATS,
    COPY,
    FORGE,
    OUTSIDER_LOOKS,
    SIGMAS,
    Cheat,
    Stakes,
    World,
    compute_auditors_part,
    compute_deposit,
    compute_gain,
    compute_stakes,
    simulate_gain,
)
from benchmarks.lab.tables import describe_run, format_table
from chain.genesis import Parameters
from chain.primitives import BASIS_POINTS
from ml.auditing import OUTPUTS_DRAWN

RATES_BP = (313, 1_250, 5_000, 10_000, 20_000)
"""Expected auditors a segment in basis points: one in 32 segments to two in each."""
SHARES = (0, AUDITORS // 4, AUDITORS // 2)
OUTSIDERS = (0, 1, 4)

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cheat in a world: its gain in coins a segment as computed and as simulated, with the latter's error."""

    world: World
    cheat: Cheat
    computed: float
    simulated: float
    error: float

    @property
    def is_near(self) -> bool:
        """Say whether the simulation agrees with what is computed."""
        return abs(self.simulated - self.computed) <= SIGMAS * self.error + 1e-9


def list_worlds() -> list[World]:
    """Return every combination of audits, colluding auditors and outsiders."""
    return [World(rate, share, count) for rate in RATES_BP for share in SHARES for count in OUTSIDERS]


def play_cells(trials: int, seed: int, say: Say) -> list[Cell]:
    """Return all cells; `say` hears of each strategy as it is done."""
    cells = []
    for cheat in CHEATS:
        for world in list_worlds():
            stakes = compute_stakes(Parameters(audit_bp=world.audit_bp))
            simulated = simulate_gain(stakes, world, cheat, trials, seed)
            cells.append(Cell(world, cheat, compute_gain(stakes, world, cheat), *simulated))
        say(f"{cheat.name}: {trials} segments in each of {len(list_worlds())} settings")
    return cells


def render_page(cells: list[Cell], trials: int, seed: int) -> str:
    """Return the page."""
    stakes = compute_stakes(Parameters())
    parts = [
        "# Audits: profit against detection",
        f"`mathesis lab audits --trials {trials} --seed {seed}` on {describe_run()}",
        _describe(stakes),
        "## Miners and coalitions",
        *(f"*{cheat.name}* ({_describe_cheat(cheat)})\n\n{_make_table(cells, cheat)}" for cheat in (FORGE, COPY)),
        "What drawn places always find, whoever looks besides:\n\n" + _make_found(cells),
        _tell_agreement(cells),
        "## The deposit from which forging one op loses",
        "Coins. Where it is above what the network has, the gain above is positive.\n\n" + _make_deposits(),
        "## Auditors of honest segments",
        "Coins a segment that the auditor is drawn for, over executing and proving it.\n\n" + _make_auditors(stakes),
        "## When vouching falsely pays",
        "Coins that a coalition's auditor gains by a proof where no honest one is drawn.\n\n" + _make_vouching(stakes),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _describe(stakes: Stakes) -> str:
    pay, bond = f"{stakes.audit_pay:.2f} coins", f"an auditor's bond {stakes.bond:g}"
    return f"""Gains are coins a segment over honest work, with the development network's parameters. A segment of
a full round brings {stakes.reward:.2f} coins where one audit each is paid, {pay}; the deposit is {stakes.deposit:g},
{bond}, a missed audit costs {stakes.penalty:g}. Honest work is taken to cost what it earns. Half of what is
lost may come back to the cheat by another name, so half counts. p: expected auditors a segment; q: the coalition's
share of the {AUDITORS} auditors; n: honest outsiders, each of whom executes a given segment with chance
{OUTSIDER_LOOKS:g}. First what is computed, in brackets the mean of simulated segments, whose auditors are drawn by the
ledger's own rule. Positive gains are bold."""


def _describe_cheat(cheat: Cheat) -> str:
    return f"{cheat.cost_ratio:.0%} of the work; drawn places find {cheat.sampled:.2%}"


def _make_table(cells: list[Cell], cheat: Cheat) -> str:
    by_world = {cell.world: cell for cell in cells if cell.cheat == cheat}
    header = ("p", *(f"q = {_format_share(share)}, n = {count}" for share in SHARES for count in OUTSIDERS))
    rows = []
    for rate in RATES_BP:
        of_rate = [by_world[World(rate, share, count)] for share in SHARES for count in OUTSIDERS]
        rows.append((_format_rate(rate), *map(_format_cell, of_rate)))
    return format_table(header, rows)


def _format_cell(cell: Cell) -> str:
    text = f"{cell.computed:+.2f} ({cell.simulated:+.2f})"
    return f"**{text}**" if cell.computed > 0 else text


def _tell_agreement(cells: list[Cell]) -> str:
    far = [cell for cell in cells if not cell.is_near]
    if not far:
        return f"All {len(cells)} simulated means lie within {SIGMAS} standard errors of what is computed."
    return (
        f"**{len(far)} of {len(cells)} simulated means lie further than {SIGMAS} standard errors from the computed.**"
    )


def _make_found(cells: list[Cell]) -> str:
    rows = []
    for cheat in CHEATS:
        if cheat.sampled == 1:
            at_one = [cell for cell in cells if cell.cheat == cheat and cell.world.audit_bp == BASIS_POINTS]
            rows.append((cheat.name, f"{cheat.cost_ratio:.0%}", _format_cell(at_one[0])))
    return format_table(("strategy", "work", "gain at p = 1"), rows)


def _make_deposits() -> str:
    header = ("p", *(f"q = {_format_share(share)}, n = {count}" for share in SHARES for count in OUTSIDERS))
    rows = []
    for rate in RATES_BP:
        stakes = compute_stakes(Parameters(audit_bp=rate))
        worlds = [World(rate, share, count) for share in SHARES for count in OUTSIDERS]
        rows.append((_format_rate(rate), *(f"{compute_deposit(stakes, world, FORGE):,.1f}" for world in worlds)))
    return format_table(header, rows)


def _make_auditors(stakes: Stakes) -> str:
    """Tell what an auditor gains over an honest one, each time that it is drawn for an honest segment."""
    false = OUTPUTS_DRAWN * stakes.deposit
    rows = (
        ("execute, prove", "0", "the pay covers the work"),
        (
            "keep silent",
            f"{-stakes.penalty:+.2f}",
            "the work is saved, its pay forgone; the third time in a row ends it",
        ),
        ("prove by guesses", f"{-stakes.penalty:+.2f}", "refused: see the attack *audit without work*"),
        ("demand the digests in disputes", f"{stakes.audit_pay - false:+.2f}", "four outputs, a deposit each, lost"),
        ("a false dispute at the round's end", f"{-stakes.deposit:+.2f}", "in place of the penalty"),
        (
            "be given the digests by a friend",
            f"**{stakes.audit_pay:+.2f}**",
            "cannot be told from work; takes from the pot",
        ),
    )
    return format_table(("auditor", "gain", "why"), rows)


def _make_vouching(stakes: Stakes) -> str:
    rows = []
    for count in (0, 1, 2, 4):
        found = 1 - (1 - OUTSIDER_LOOKS) ** count
        alone = replace(stakes, penalty=float("inf"))
        rows.append(
            (str(count), f"{found:.0%}", f"{compute_auditors_part(alone, found):+.2f}", _tell_choice(stakes, found))
        )
    return format_table(("outsiders", "found by one", "gain of vouching", "better for the coalition"), rows)


def _tell_choice(stakes: Stakes, found: float) -> str:
    vouching = compute_auditors_part(replace(stakes, penalty=float("inf")), found)
    return "vouch" if compute_auditors_part(stakes, found) == vouching else "silence"


def _format_rate(rate_bp: int) -> str:
    return f"1/{round(BASIS_POINTS / rate_bp)}" if rate_bp < BASIS_POINTS else f"{rate_bp / BASIS_POINTS:g}"


def _format_share(colluding: int) -> str:
    return f"1/{AUDITORS // colluding}" if colluding else "0"
