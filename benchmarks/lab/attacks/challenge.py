"""Threats 17, 20, 22, 62 and 64: choosing one's challenge, and working ahead of it.

What a miner can vary is listed and varied, with the real hashes, headers and ledger. Threats 18 and 19 stand in
`challenge_beacon`, 21 and 53 in `challenge_silence`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from benchmarks.lab.attacks import challenge_beacon, challenge_silence
from benchmarks.lab.attacks.case import Attack, Effort, Ending, Outcome
from benchmarks.lab.attacks.commitment import is_refused
from benchmarks.lab.attacks.commitment_network import ALICE, BOB, STRANGER, Network, make_genesis
from benchmarks.lab.attacks.trajectory_bench import get_bench
from benchmarks.lab.attacks.trajectory_cheats import spoil_tile
from benchmarks.lab.attacks.trajectory_judges import make_judged_pair
from chain.genesis import Parameters, compute_segment_seed
from chain.hashing import tagged_hash
from chain.header import compute_header_hash
from chain.ledger.contributions import compute_challenge
from chain.ledger.genesis_state import make_genesis_state
from chain.primitives import Hash, PublicKey
from chain.signature import SigningKey
from chain.ticket import EMPTY_TICKET
from chain.transaction import PostBond, Transfer
from consensus.header_chain import HeaderChain, make_genesis_header
from consensus.header_rules import HeaderContent, make_header, make_header_context
from ml.dataset import Examples
from ml.prf import compute_key, draw_below

KEYS_GROUND = 512
WISHED_LABEL = 0


def vary_commit(effort: Effort) -> Outcome:
    """Vary all that a miner may choose around a commit: fee, nonce, position, block, sidecar, its other segments."""
    del effort
    plain, tried, unmoved = _commit_and_meet(), 0, 0
    variants: tuple[Callable[[], tuple[Hash, Hash]], ...] = (
        partial(_commit_and_meet, fee=1),
        partial(_commit_and_meet, fee=2**38),
        partial(_commit_and_meet, before=1),
        partial(_commit_and_meet, before=3),
        partial(_commit_and_meet, others=1),
        partial(_commit_and_meet, timestamp_ms=1),
        partial(_commit_and_meet, timestamp_ms=119_999),
        partial(_commit_and_meet, miner=BOB),
    )
    for variant in variants:
        tried += 1
        unmoved += variant() == plain
    return Outcome(tried, unmoved, None, None, "none of them enters the segment's seed, a beacon or the challenge")


def resign_header(effort: Effort) -> Outcome:
    """Sign a won header again with other times, contents and signatures."""
    genesis = make_genesis()
    context = make_header_context(genesis, lambda _ticket: 1)
    parent = HeaderChain(make_genesis_header(genesis, make_genesis_state(genesis)[0])).genesis
    ticket = replace(EMPTY_TICKET, task=context.task_id, digest=tagged_hash("ticket", b"won"))
    contents = [
        HeaderContent(
            ALICE.public_key, genesis.timestamp_ms + 1 + i, *(tagged_hash(tag, bytes([i % 256])) for tag in ("s", "t"))
        )
        for i in range(effort.trials)
    ]
    headers = [make_header(context, parent, ticket, content, ALICE) for content in contents]
    beacons = {header.trunk.beacon for header in headers}
    names = [compute_header_hash(replace(header, signature=headers[0].signature)) for header in headers]
    unmoved = sum(header.trunk.beacon == headers[0].trunk.beacon for header in headers)
    unmoved += sum(name == compute_header_hash(header) for name, header in zip(names, headers, strict=True))
    assert len(beacons) == 1 or unmoved < 2 * len(headers)
    return Outcome(2 * len(headers), unmoved, None, None, "one ticket has one beacon, and a signature is in no hash")


def grind_keys(effort: Effort) -> Outcome:
    """Grind keys for batches of one label under the beacon that is known, and train under the one that counts."""
    context, rows = Network().context, get_bench().task.program.spec.batch

    def count_wished(key: PublicKey, beacon: Hash) -> int:
        return _count_wished(compute_segment_seed(context.chain_id, context.task_id, 0, beacon, key, 0))

    keys = [SigningKey(tagged_hash("key", number.to_bytes(4, "little"))).public_key for number in range(KEYS_GROUND)]
    known = tagged_hash("beacon", b"known")
    best = max(keys, key=lambda key: count_wished(key, known))
    later = [tagged_hash("beacon", number.to_bytes(4, "little")) for number in range(effort.trials)]
    wished, share = sum(count_wished(best, beacon) for beacon in later), _get_share()
    verdict = (
        f"of {rows} rows, the best of {KEYS_GROUND} keys has {count_wished(best, known)} of the label,"
        f" {rows * share:.1f} being expected; under later beacons {wished / len(later):.1f}"
    )
    return Outcome(rows * len(later), rows * len(later) - wished, 1 - share, None, verdict)


def _count_wished(seed: Hash) -> int:
    """Return the rows of the first batch that have the wished label."""
    data, rows = _get_examples(), get_bench().task.program.spec.batch
    key = compute_key(seed, 0, 0)
    return sum(int(data.labels[draw_below(key, row, len(data.labels)), 0]) == WISHED_LABEL for row in range(rows))


def _get_share() -> float:
    return float((_get_examples().labels == WISHED_LABEL).mean())


def _get_examples() -> Examples:
    data = get_bench().task.dataset
    assert isinstance(data, Examples)
    return data


def use_unknown_key(effort: Effort) -> Outcome:
    """Commit and mine under keys without a bond, and under one whose bond is in the block of the anchor."""
    del effort
    network, joined = Network(), Network()
    joined.mine(joined.sign(STRANGER, PostBond(joined.context.parameters.bond)))
    commits = [
        each.sign(STRANGER, each.make_commit(each.train(STRANGER, anchor=height), anchor=height))
        for each, height in ((network, 0), (joined, 0), (joined, 1))
    ]
    attempts = (
        partial(network.mine, commits[0]),
        partial(network.mine, draft=network.make_draft(STRANGER)),
        partial(joined.mine, commits[1]),
        partial(joined.mine, commits[2]),
        partial(joined.mine, draft=joined.make_draft(STRANGER, replace(EMPTY_TICKET, anchor_height=1))),
    )
    refused = sum(map(is_refused, attempts))
    joined.mine()
    joined.mine(joined.sign(STRANGER, joined.make_commit(joined.train(STRANGER, anchor=2), anchor=2)))
    return Outcome(len(attempts), refused, None, None, "a bond is older than every anchor it is good for")


def train_ahead(effort: Effort) -> Outcome:
    """Train before the anchor's beacon exists, for a guessed beacon, and name anchors out of their range."""
    network = Network()
    guesses = [tagged_hash("beacon", b"guess", number.to_bytes(4, "little")) for number in range(effort.trials)]
    names = network.context.chain_id, network.context.task_id
    seeds = {compute_segment_seed(*names, 0, guess, ALICE.public_key, 0) for guess in guesses}
    missed = sum(seed != network.compute_seed(ALICE) for seed in seeds)
    network.mine_to(network.context.parameters.round_blocks)
    start = network.task.start_height
    segment = network.train(ALICE, anchor=start)
    commits = [network.make_commit(segment, anchor=anchor) for anchor in (0, start - 2, start + 1, start + 9)]
    missed += sum(is_refused(partial(network.mine, network.sign(ALICE, commit))) for commit in commits)
    verdict = "no guess is the beacon; an anchor is at most one block older than its round, and exists"
    return Outcome(len(guesses) + len(commits), missed, None, None, verdict)


def choose_anchors(effort: Effort) -> Outcome:
    """Choose the anchors and indexes of one's segments: what freedom the rules leave."""
    del effort
    network, parameters = Network(), Parameters()
    # In the second round no anchor is cut off by genesis.
    network.mine_to(parameters.round_blocks + parameters.commit_blocks)
    start = network.task.start_height
    anchors = range(start - 1, network.height)
    count, rows = parameters.segments_per_round, get_bench().task.program.spec.batch
    seeds = {network.compute_seed(ALICE, index, anchor) for anchor in anchors for index in range(count)}
    best = max(map(_count_wished, seeds))
    verdict = (
        f"{len(seeds)} seeds a round for {count} commits: of {rows} rows the best has {best} of a label,"
        f" {rows * _get_share():.1f} being expected; rewards count MACs, which all have alike"
    )
    return Outcome(len(seeds), 0, None, None, verdict)


def _commit_and_meet(
    fee: int = 0, before: int = 0, others: int = 0, timestamp_ms: int = 0, miner: SigningKey = ALICE
) -> tuple[Hash, Hash]:
    """Return the segment's seed and the challenge that it meets."""
    network = Network()
    segment = network.train(ALICE)
    transfers = [network.sign(ALICE, Transfer(BOB.public_key, 1), after=i) for i in range(before)]
    commits = [network.sign(ALICE, network.make_commit(segment), fee=fee, after=before)]
    if others:
        second = network.make_commit(network.train(ALICE, index=1), index=1)
        commits.append(network.sign(ALICE, second, after=before + 1))
    network.mine(*transfers, *commits, draft=network.make_draft(miner, delay_ms=timestamp_ms))
    network.mine_to(3)
    contribution = network.get_contribution(ALICE)
    assert contribution.challenge == compute_challenge(network.beacon, contribution)
    return contribution.seed, contribution.challenge


def _make_case(
    rows: tuple[int, ...],
    name: str,
    run: Callable[[Effort], Outcome],
    *endings: Ending,
    expected: str = "always refused",
) -> Attack:
    return Attack(rows, name, run.__doc__ or name, expected, endings, run)


ATTACKS: tuple[Attack, ...] = (
    _make_case((17,), "free bits around a commit", vary_commit, Ending.DETECTED, expected="none moves the challenge"),
    _make_case((17, 64), "choice of anchors", choose_anchors, Ending.OPEN, expected="ten seeds for two segments"),
    *challenge_beacon.ATTACKS,
    *challenge_silence.ATTACKS,
    *make_judged_pair((20,), "one tile spoilt", spoil_tile),
    _make_case((22,), "training ahead of the beacon", train_ahead, Ending.DETECTED),
    _make_case((62,), "header signed again", resign_header, Ending.DETECTED, expected="none moves the challenge"),
    _make_case((64,), "keys ground for a label", grind_keys, Ending.COMPUTED, expected="no better than any key"),
    _make_case((64,), "keys of nobody", use_unknown_key, Ending.DETECTED),
)
