"""All parts of the campaign by name, with the counts that their targets ask for. A new part is a line here."""

from benchmarks.lab.reliability.bombs import list_bombs, run_bombs
from benchmarks.lab.reliability.corruptions import run_corruptions
from benchmarks.lab.reliability.economy import run_economy
from benchmarks.lab.reliability.equivocations import run_equivocations
from benchmarks.lab.reliability.floods import run_invalid_blocks, run_transactions
from benchmarks.lab.reliability.full_disks import SHORTAGES, run_full_disks
from benchmarks.lab.reliability.imports import run_imports
from benchmarks.lab.reliability.kills import run_kills
from benchmarks.lab.reliability.part import Part
from benchmarks.lab.reliability.sequences import run_sequences
from benchmarks.lab.reliability.simulated import run_addresses, run_clocks, run_partitions

FLOODED_BLOCKS = 200
"""So many that what 99 % lie within is not the slowest one alone."""

PARTS = (
    Part("kills", "none torn, nothing told of lost, a start within 5 s", "deaths by SIGKILL", 900, 8, run_kills),
    Part("imports", "half an import is none, and goes on", "deaths of an import by SIGKILL", 100, 4, run_imports),
    Part("corruptions", "an older clean head or a refusal, no wrong answer", "damaged files", 500, 24, run_corruptions),
    Part("disks", "the exit code of a full disk, nothing lost", "full disks", len(SHORTAGES), 4, run_full_disks),
    Part("partitions", "equal work within 30 s of healing, one tip", "simulated seeds", 200, 2, run_partitions),
    Part("clocks", "the same, with a clock wrong by up to an hour", "simulated seeds", 100, 2, run_clocks),
    Part("equivocations", "all noticed, in bounded memory", "pairs of contents", 1_000, 20, run_equivocations),
    Part(
        "invalid-blocks",
        "1,000 a second; honest 99 % within twice idle",
        "honest blocks imported meanwhile",
        FLOODED_BLOCKS,
        4,
        run_invalid_blocks,
    ),
    Part(
        "transactions",
        "10,000 offered a second; a block validated within 1.25 of idle",
        "honest blocks imported meanwhile",
        FLOODED_BLOCKS,
        4,
        run_transactions,
    ),
    Part("addresses", "an honest outbound peer after every start", "sieges", 1_000, 2, run_addresses),
    Part("bombs", "64 MiB a peer, a stall of 50 ms", "bombs", 2 * len(list_bombs()), 8, run_bombs),
    Part("economy", "every atom and unit, and a replay's roots", "random economy actions", 100_000, 300, run_economy),
    Part("sequences", "supply, roots and bounds hold", "random actions", 1_000_000, 2_000, run_sequences),
)
