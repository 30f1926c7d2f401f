"""Posted tasks in a random history: posted, funded, and refused where the books say so. Rounds are `history`'s.

Each is the world's own program with another seed, or one whose first checkpoint stands already, so that a content is
met twice now and then.
"""

from dataclasses import replace

from benchmarks.lab.economy.books import COIN, Pot
from benchmarks.lab.economy.copies import find_owed, read_copy
from benchmarks.lab.economy.history import History
from benchmarks.lab.economy.oracle import OracleModel
from benchmarks.lab.economy.world import PARAMETERS
from chain.ledger.posted_tasks import compute_posted_task_id
from chain.primitives import Hash
from chain.transaction import FundTask, PostTask, Sidecar
from node.task_terms import ModelTerms, Offer, make_post_task

LIVE_MAX = 4
SEEDS = 60
"""Few enough that one comes twice now and then."""
PRICES = (1, 1 << 30, 1 << 44, 1 << 52, 1 << 60)
RESERVE = 40 * COIN


def post_task(run: History) -> None:
    """Post a task, or one that there is no room, no time or no new checkpoint for."""
    poster = run.random.choice(run.keys)
    start = run.world.round.start_height + PARAMETERS.round_blocks
    dataset = _draw_dataset(run)
    owed = find_owed(run.books.copies, dataset)
    terms, sidecar = _draw_terms(run, start, dataset, owed)
    run.world.content.add(sidecar)
    root, author_bp = terms.model.checkpoint_root, terms.model.author_bp
    model = OracleModel(poster.public_key, author_bp, 0, 0, None, terms.model.datasets)
    if not run.has_room():
        run.refuse(poster, terms, "block-sidecars")
    elif terms.budget < 10 * COIN:
        run.refuse(poster, terms, "task-budget")
    elif len(run.books.pots) >= LIVE_MAX:
        run.refuse(poster, terms, "task-full")
    elif terms.last_height < start + PARAMETERS.round_blocks:
        run.refuse(poster, terms, "task-height")
    elif root in run.oracle.contents:
        run.refuse(poster, terms, "content-known")
    elif run.balance_of(poster.public_key) <= terms.budget + RESERVE or run.has_claimed(poster.public_key):
        return
    elif owed is not None and owed not in terms.model.datasets:
        run.refuse(poster, terms, "dataset-near-duplicate")
    else:
        name = compute_posted_task_id(run.world.context.chain_id, poster.public_key, terms)
        pot = Pot(terms.price, terms.budget, start, terms.last_height, {poster.public_key: terms.budget})
        run.oracle.contents.add(root)
        run.oracle.models[name] = model
        run.books.copies[dataset].is_shown = True
        run.books.post(name, poster.public_key, pot)
        run.enter(poster, terms)


def fund_task(run: History) -> None:
    """Add to the pot of a task that is live, or was, or never is."""
    funder, task = run.random.choice(run.keys), run.world.context.task_id
    amount = run.random.choice((COIN - 1, COIN, COIN + 1, 3 * COIN))
    closed = sorted(name for name in _list_posted(run) if name not in run.books.pots)
    names = sorted(run.books.pots)
    if amount < COIN:
        run.refuse(funder, FundTask(task, amount), "fund-amount")
    elif run.random.random() < 0.1:
        run.refuse(funder, FundTask(task, amount), "task-genesis")
    elif closed and run.random.random() < 0.2:
        run.refuse(funder, FundTask(run.random.choice(closed), amount), "task-closed")
    elif names and run.balance_of(funder.public_key) > amount + RESERVE and not run.has_claimed(funder.public_key):
        name = run.random.choice(names)
        run.books.fund(name, funder.public_key, amount)
        run.enter(funder, FundTask(name, amount))


def _list_posted(run: History) -> list[Hash]:
    """Return every task that stands in the state: what the next block posts does not yet."""
    return [name for name in run.oracle.models if run.world.is_posted(name)]


def _draw_dataset(run: History) -> Hash:
    """Return the network's own data set or a copy of it."""
    first, *copies = run.books.copies
    return run.random.choice(copies) if copies and run.random.random() < 0.4 else first


def _draw_terms(run: History, start: int, dataset: Hash, owed: Hash | None) -> tuple[PostTask, Sidecar]:
    # Scoring may take no more than training, and a segment of this world is as short as any.
    spec = replace(run.world.task.program.spec, heldout=4, init_seed=run.random.randrange(1, SEEDS))
    sources = () if owed is None or run.random.random() < 0.4 else (owed,)
    model = ModelTerms("posted", "Apache-2.0", author_bp=run.random.choice((0, 333, 2_500)), sources=sources)
    budget = run.random.choice((10 * COIN - 1, 10 * COIN, 10 * COIN + 7, 15 * COIN, 30 * COIN))
    last_height = start + run.random.choice((PARAMETERS.round_blocks - 1, 4, 5, 8, 11, 24, 40))
    offer = Offer(budget, run.random.choice(PRICES), last_height)
    data = read_copy(run.world.genesis.task.dataset_root, run.books.copies[dataset].number)
    return make_post_task(spec, data, dataset, model, offer)
