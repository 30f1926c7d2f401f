"""The page of the comparison of proofs: what each side takes, what each proof proves, and how they compare.

It measures nothing. A cell with three numbers is a median with its quartiles (of three samples: least and most).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.lab.peers_case import Finding, PeerCase, Plan, Times
from benchmarks.lab.tables import format_table

MIB = 1 << 20
WALL, PROCESSOR = 0, 1
INSTALL = "pip install 'mathesis[peers]'"
_OWN_COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "spot checks": (("commit", "open"), ("roots", "openings")),
    "Freivalds": (("commit", "transcript"), ("roots", "transcript")),
    "re-execution": (("commit",), ("roots",)),
}
"""Verifiers: what the prover does for each beyond training, and what it sends."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The findings of a case by phase."""

    case: PeerCase
    own: dict[str, Finding]
    peer: dict[str, Finding] | None


@dataclass(frozen=True, slots=True)
class Column:
    """One way to prove, as the table has it."""

    name: str
    compute: tuple[Times, ...]
    """What is proven, without its proof."""
    prove: tuple[Times, ...]
    verify: tuple[Times, ...]
    proof_bytes: int
    findings: dict[str, Finding]


def render_page(comparisons: Sequence[Comparison], plan: Plan, machine: str, version: str | None) -> str:
    """Return the Markdown page; `version` is None where EZKL was not measured."""
    missing = f"**EZKL was not measured, for it is not installed here:** `{INSTALL}`, then run this again."
    peer = missing if version is None else f"Of EZKL, on all processors: {version}."
    parts = [_INTRODUCTION.format(machine=machine, peer=peer, repeats=plan.repeats, proofs=plan.proofs)]
    for each in comparisons:
        parts += [f"## {each.case.title}\n", describe_case(each.case), render_case(each), describe_findings(each)]
    return "\n".join([*parts, _MEANING])


def describe_case(case: PeerCase) -> str:
    """Say what each side computes."""
    shapes = f"x {case.batch} × {case.width} and w {case.width} × {case.width}"
    theirs = _STEP if case.is_step else _LAYER
    return f"{theirs.format(shapes=shapes)}{_OURS.format(width=case.width, batch=case.batch)}"


def list_columns(comparison: Comparison) -> list[Column]:
    """Return EZKL's column, if it was measured, and one for each of our verifiers."""
    columns, own, peer = [], comparison.own, comparison.peer
    if peer is not None:
        made = peer["prove"]
        samples = made.samples["compute"], made.samples["prove"], peer["verify"].samples["verify"]
        columns.append(Column("EZKL", *samples, made.sizes_bytes["proof"], peer))
    made = own["prove"]
    for name, (works, parts) in _OWN_COLUMNS.items():
        prove = add_samples([made.samples[work] for work in works])
        size = sum(made.sizes_bytes[part] for part in parts)
        columns.append(Column(name, made.samples["compute"], prove, own["verify"].samples[name], size, own))
    return columns


def add_samples(parts: Sequence[Sequence[Times]]) -> tuple[Times, ...]:
    """Return the sums of samples that belong together."""
    return tuple(
        (sum(time[WALL] for time in times), sum(time[PROCESSOR] for time in times))
        for times in zip(*parts, strict=True)
    )


def render_case(comparison: Comparison) -> str:
    """Return the table of a case."""
    columns = list_columns(comparison)
    rows = [_make_row(name, columns, show) for name, show in _ROWS]
    if comparison.peer is not None:
        rows += [
            _make_ratio_row(f"{name}: EZKL / ours, {word}", columns, pick, clock)
            for name, pick in _RATIOS
            for clock, word in ((WALL, "on the wall"), (PROCESSOR, "of processors"))
        ]
    return format_table(("", *(column.name for column in columns)), rows)


def describe_findings(comparison: Comparison) -> str:
    """Say how coarse either proof is."""
    text = _FILTER.format(**comparison.own["prove"].facts)
    if comparison.peer is not None:
        text += _CIRCUIT.format(**comparison.peer["set-up"].facts, **comparison.peer["prove"].facts)
    return text


def compute_median(samples: Sequence[Times], clock: int) -> float:
    """Return the median milliseconds by one of the clocks."""
    return median(times[clock] for times in samples)


def format_times(samples: Sequence[Times], clock: int) -> str:
    """Return the median and, of three samples or more, the quartiles, in milliseconds."""
    values = [times[clock] for times in samples]
    if len(values) < 3:
        return _format_number(median(values))
    low, _, high = quantiles(values, n=4)
    return f"{_format_number(median(values))} ({_format_number(low)} – {_format_number(high)})"


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _make_ratio_row(
    name: str, columns: Sequence[Column], pick: Callable[[Column], tuple[Times, ...]], clock: int
) -> tuple[str, ...]:
    peer, *own = (compute_median(pick(column), clock) for column in columns)
    return (name, "1", *(_format_number(peer / each) for each in own))


def _make_row(name: str, columns: Sequence[Column], show: Callable[[Column], str]) -> tuple[str, ...]:
    return (name, *(show(column) for column in columns))


def _show_setup(column: Column, peer_work: str, own_work: Sequence[str]) -> str:
    samples = column.findings["set-up"].samples
    if peer_work in samples:
        return format_times(samples[peer_work], WALL)
    return format_times(add_samples([samples[work] for work in own_work]), WALL) if own_work else "none"


def _show_size(column: Column, name: str) -> str:
    size = column.findings["set-up"].sizes_bytes.get(name)
    return "none" if size is None else f"{size:,}"


def _show_peak(column: Column) -> str:
    found = column.findings.values()
    return " / ".join(f"{each.peak_bytes / MIB:,.0f}" for each in found)


def _show_base(column: Column) -> str:
    return f"{min(each.base_bytes for each in column.findings.values()) / MIB:,.0f}"


_ROWS: tuple[tuple[str, Callable[[Column], str]], ...] = (
    ("common parameters, once for all circuits, ms", lambda c: _show_setup(c, "parameters", ())),
    ("set-up (keys; program and first weights), ms", lambda c: _show_setup(c, "keys", ("program", "weights"))),
    ("common parameters, bytes", lambda c: _show_size(c, "srs")),
    ("proving key, bytes", lambda c: _show_size(c, "pk")),
    ("verifying key, bytes", lambda c: _show_size(c, "vk")),
    ("the computation itself, ms", lambda c: format_times(c.compute, WALL)),
    ("prove, ms", lambda c: format_times(c.prove, WALL)),
    ("prove, processor ms", lambda c: format_times(c.prove, PROCESSOR)),
    ("verify, ms", lambda c: format_times(c.verify, WALL)),
    ("verify, processor ms", lambda c: format_times(c.verify, PROCESSOR)),
    ("proof, bytes", lambda c: f"{c.proof_bytes:,}"),
    ("peak memory of set-up / prove / verify, MiB", _show_peak),
    ("of which libraries, MiB", _show_base),
)
_RATIOS: tuple[tuple[str, Callable[[Column], tuple[Times, ...]]], ...] = (
    ("prove", lambda column: column.prove),
    ("prove with the computation", lambda column: add_samples([column.compute, column.prove])),
    ("verify", lambda column: column.verify),
)

_INTRODUCTION = """# Our proof beside EZKL's

`mathesis lab peers`: {machine}
{peer}
Medians (quartiles; of three samples the least and the most): {repeats} samples of ours and of EZKL's verification,
{proofs} of its keys and proofs, one of its common parameters, which are generated here and not fetched. Every phase of
every side runs in a process of its own, one after another. Ours takes one thread, and its kernels were compiled before.
EZKL takes its default arguments and its own calibration for least resources; it reads its key from disk for each proof.
What is ours for each verifier beyond training: *spot checks* commitment and openings of 8 drawn places, for which the
step is trained again; *Freivalds* commitment and transcript; *re-execution* the commitment.

On a busy machine believe the processors' clock: a long call is made to wait, a short one seldom. On an idle one EZKL's
wall time is below its processor time, since it takes all processors.
"""
_STEP = """EZKL: `w − ⅛ xᵀ(x w − t)` for {shapes}, t one-hot: forward product, gradient of half the
squared error, plain descent; x, w and t are private, the new weights public.
"""
_LAYER = """EZKL: `x w` for {shapes}, both private, the product public. No program of ours is a layer
alone, so ours does more here: the layer is the forward product of its step.
"""
_OURS = """Ours: a whole step of training, {width} inputs → {width} classes, batch {batch} from 63 random examples: the
batch, both views of each operand quantised, forward product, softmax cross-entropy, weight gradient, Adam, delta.
"""
_FILTER = """A challenge of 8 places shows one wrong element of one tensor of ours with a chance of {chance:.2%}.
"""
_CIRCUIT = """EZKL's circuit has {rows:,.0f} rows of 2^{logrows:.0f}, its inputs come in units of 2^-{scale:.0f}. Its
outputs are up to {error:.1e} from float64's, of which the largest is {largest:.2f}.
"""
_MEANING = """## What each proof proves

- **EZKL**: somebody knows private inputs for which this circuit of fixed-point numbers has these public outputs. A
  false claim passes with a negligible chance, under the assumptions of its commitments and if nobody has kept the
  secret of the common parameters. Which weights and data they were it does not say: a circuit that bound them would be
  larger. It says nothing of floats beyond the tolerance above.
- **Spot checks**: the drawn places of a committed step hold to the bit, on this data set, seed and state. A filter: a
  wrong step passes often, and the chance above is that of one challenge.
- **Freivalds**: every element of the committed step is right to the bit, on this data set, seed and state. A wrong step
  passes with a chance of 2⁻⁶², by the verifier's own coin, or by a collision of BLAKE3. The verifier reads state and
  products and computes all but the products itself.
- **Re-execution**: the same, but for the coin. Nothing more is sent; the verifier does all the work, from a state that
  it holds.

So the factors compare costs, not one good at two prices. EZKL's proof stays a few kilobytes, can be checked by whoever
has neither weights nor data, and hides both. Ours hides nothing, and its complete forms need the step's data.

Each verifier measured was given a changed proof too (EZKL's: two outputs swapped) and refused it: a run in which one
does not ends without a page.
"""
