"""The page of a story's end: every figure that was compared, and what the dishonest one paid.

It measures nothing itself. Amounts are atoms.
"""

from benchmarks.lab.parties.story import Outcome
from benchmarks.lab.tables import describe_run, format_table
from chain.primitives import ATOMS_PER_COIN


def render_page(outcome: Outcome) -> str:
    """Return the Markdown page of an outcome."""
    accounts = outcome.accounts
    rows = [
        (line.name, f"{line.found:,}", f"{line.expected:,}", "yes" if line.is_equal else "**no**")
        for line in outcome.lines
    ]
    lost, deposit = accounts.lost.get(outcome.forger, 0), accounts.genesis.parameters.deposit
    counts = [(name, f"{count:,}") for name, count in sorted(accounts.counts.items())]
    parts = [
        "# Five parties on one network",
        f"`mathesis lab parties`; {describe_run()}",
        _LEGEND,
        f"Height {outcome.height}, {accounts.round} rounds. The dishonest contributor was caught with each of the"
        f" {len(outcome.forged)} segments that it committed in them ({', '.join(sorted(set(outcome.forged)))}), lost"
        f" {lost} deposits of {deposit // ATOMS_PER_COIN} coins and has {outcome.forger_units} share units. Whatever"
        " else expired was honest work that came too late for a busy machine.",
        format_table(("what", "by the chain", "from its blocks", "equal"), rows),
        format_table(("what happened", "times"), counts),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


_LEGEND = """Real processes on loopback: two nodes, an honest miner and one that forges every segment, and three
people who sign and send over RPC. The forger stands in no genesis: the honest miner lends it 100 coins, of which it
posts a bond of 50. A data owner registers for 5 %, an author registers a child of the network's model for 30 % on that
data, a buyer buys its licence for 10 coins and pays the network's model 3 coins and 7 atoms;
a third of a segment's units changes hands; both holders claim. The second column is what the node answers at its
last head. The third is computed from the chain's blocks alone, in fractions, by code that shares nothing with the
ledger but its records. Amounts are atoms."""
