"""Many lives of a node under siege, and the page about them: measured beside the arithmetic of the buckets.

A siege is played by several processes, each run from its own seed, so that any run can be played again alone. It knows
no rule of the address book.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from multiprocessing import get_context

from benchmarks.lab.eclipse import Outcome, Siege, run_siege
from benchmarks.lab.tables import describe_run, format_table
from p2p.address_tables import (
    BUCKET_SIZE,
    NEW_BUCKETS,
    NEW_BUCKETS_PER_TELLER,
    TRIED_BUCKETS,
    TRIED_BUCKETS_PER_PREFIX,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How many runs of each siege, over how many processes, from which first seed."""

    runs: int = 1_000
    """Of the widest siege, the worst for the node."""
    side_runs: int = 100
    """Of each other one."""
    prefixes: tuple[int, ...] = (16, 256, 1_024, 4_096)
    restarts: int = 10
    workers: int = 1
    seed: int = 1


QUICK = Plan(runs=2, side_runs=1, prefixes=(16, 256), restarts=1)


@dataclass(frozen=True, slots=True)
class Campaign:
    """A siege with the sum of its runs' outcomes, and the seeds of those in which a start was eclipsed."""

    siege: Siege
    runs: int
    total: Outcome
    lost_seeds: tuple[int, ...]


def run_campaigns(plan: Plan, say: Callable[[str], None]) -> tuple[list[Campaign], list[Campaign], list[Campaign]]:
    """Return the sieges as they are, those without anchors, and the long ones."""
    sieges = [Siege(prefixes, restarts=plan.restarts) for prefixes in plan.prefixes]
    heavy = [siege for siege in sieges if siege.prefixes >= 256]
    plain = [_play(siege, plan.side_runs, plan, say) for siege in sieges[:-1]]
    plain.append(_play(sieges[-1], plan.runs, plan, say))
    bare = [_play(replace(siege, has_anchors=False), plan.side_runs, plan, say) for siege in heavy]
    long = [_play(replace(siege, hours_between=24), plan.side_runs, plan, say) for siege in heavy]
    return plain, bare, long


def render_page(campaigns: tuple[list[Campaign], list[Campaign], list[Campaign]], plan: Plan) -> str:
    """Return the page."""
    plain, bare, long = (_render_table(rows) for rows in campaigns)
    return f"""# Eclipse: poisoned addresses against the address book

`mathesis lab eclipse --runs {plan.runs} --side-runs {plan.side_runs} --seed {plan.seed}` on {describe_run()}

{_describe(Siege(1, restarts=plan.restarts))}

{plain}
Computed: places by throwing addresses at the buckets that so many tellers and prefixes reach, in an empty book; slots
by the chances of a draw, half of the full ones from both tables and half from the tried one, honest nodes answering as
above. That leaves out that no two peers share a prefix, which holds back an attacker with few.

Without anchors, {plan.side_runs} runs each:

{bare}
With a day between two starts, {plan.side_runs} runs each. A feeler sooner or later dials what the attacker has placed,
and is answered, so the tried table fills with it; anchors are what is left:

{long}
{_list_lost([campaign for group in campaigns for campaign in group])}
"""


def _describe(siege: Siege) -> str:
    known = f"{siege.honest_tried} honest addresses at which it has reached nodes and {siege.honest_new} more"
    return f"""A run is one life of a node on a virtual clock, with the real address book and the real dial plan. It
knows {known} that it has heard of, and has started {siege.past_starts}
times. Then an attacker tells {siege.addresses:,} addresses, spread over /16 networks in all of which it has nodes; each
is told from one of these networks, drawn at random, with no regard to the rate at which a peer's addresses are taken.
Feelers go out for {siege.hours_between} hour and the node starts again, {siege.restarts} times. All of the attacker's
addresses answer, always; an honest node is up at {siege.online_percent} % of the starts. A start is eclipsed when all
ten outbound peers are the attacker's. The shares of draws and slots are means over the starts."""


def _list_lost(campaigns: list[Campaign]) -> str:
    lost = [campaign for campaign in campaigns if campaign.lost_seeds]
    if not lost:
        return "No start of any run was eclipsed."
    lines = [f"- {_name(campaign.siege)}: {', '.join(map(str, campaign.lost_seeds[:20]))}" for campaign in lost]
    return "\n".join(["Seeds of runs in which a start was eclipsed (the first twenty of each siege):", "", *lines])


def _name(siege: Siege) -> str:
    anchors = "" if siege.has_anchors else ", without anchors"
    return f"{siege.prefixes:,} networks, {siege.hours_between} h between starts{anchors}"


def compute_placed(siege: Siege) -> float:
    """Return how many poisoned addresses find a place in an empty table of new ones."""
    rows = _compute_hit(NEW_BUCKETS_PER_TELLER, siege.prefixes)
    cells = _compute_hit(siege.prefixes * rows, siege.addresses)
    return _compute_hit(BUCKET_SIZE * _compute_hit(NEW_BUCKETS, cells), siege.addresses)


def compute_tried_buckets(siege: Siege) -> float:
    """Return how many tried buckets the attacker's prefixes reach."""
    return _compute_hit(TRIED_BUCKETS, TRIED_BUCKETS_PER_PREFIX * siege.prefixes)


def compute_full_share(new_share: float, tried_share: float, online_percent: int) -> float:
    """Return the part of full slots that the attacker gets, from its part of either table's draws."""
    either = _weigh((new_share + tried_share) / 2, online_percent)
    return (either + _weigh(tried_share, online_percent)) / 2


def _weigh(share: float, online_percent: int) -> float:
    """Return the part of draws that answer which is the attacker's."""
    return share / (share + (1 - share) * online_percent / 100) if share else 0.0


def _compute_hit(places: float, throws: float) -> float:
    """Return how many of `places` are hit by so many uniform throws."""
    missed: float = (1 - 1 / places) ** throws
    return places * (1 - missed)


def _play(siege: Siege, runs: int, plan: Plan, say: Callable[[str], None]) -> Campaign:
    seeds = range(plan.seed, plan.seed + runs)
    if plan.workers == 1:
        outcomes = [run_siege(siege, seed) for seed in seeds]
    else:
        with ProcessPoolExecutor(plan.workers, get_context("spawn")) as pool:
            outcomes = list(pool.map(partial(run_siege, siege), seeds, chunksize=10))
    total = replace(outcomes[0])
    for outcome in outcomes[1:]:
        for part in fields(Outcome):
            setattr(total, part.name, getattr(total, part.name) + getattr(outcome, part.name))
    lost = tuple(seed for seed, outcome in zip(seeds, outcomes, strict=True) if outcome.eclipses)
    say(f"{_name(siege)}: {runs - len(lost)} of {runs} runs kept an honest peer at every start")
    return Campaign(siege, runs, total, lost)


def _render_table(campaigns: list[Campaign]) -> str:
    header = (
        "networks", "placed", "computed", "draws: new", "tried", "tried buckets reached", "tried addresses",
        "full slots lost", "computed", "block-only lost", "starts eclipsed", "runs with an honest peer at every start",
    )  # fmt: skip
    return format_table(header, [_render_row(campaign) for campaign in campaigns])


def _render_row(campaign: Campaign) -> tuple[str, ...]:
    siege, total, runs = campaign.siege, campaign.total, campaign.runs
    new_share, tried_share = total.new_share / total.starts, total.tried_share / total.starts
    return (
        f"{siege.prefixes:,}",
        f"{total.placed / runs:,.0f}",
        f"{compute_placed(siege):,.0f}",
        f"{new_share:.3f}",
        f"{tried_share:.3f}",
        f"{compute_tried_buckets(siege):.0f} of {TRIED_BUCKETS}",
        f"{total.tried_addresses / runs:,.0f}",
        f"{total.full_lost / total.full_slots:.3f}",
        f"{compute_full_share(new_share, tried_share, siege.online_percent):.3f}",
        f"{total.block_only_lost / total.block_only_slots:.3f}",
        f"{total.eclipses:,} of {total.starts:,}",
        f"{runs - len(campaign.lost_seeds):,}/{runs:,}",
    )
