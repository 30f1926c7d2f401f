"""A step of integer training beside one of float32 PyTorch, as a results page.

What a step is, on either side, and how its time is taken, is `benchmarks.training_step`'s; here widths are gone
through, steps of both sides alternate in one process, and medians, spread, profile and memory are put on a page.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles

from benchmarks.lab.tables import describe_run, format_table
from benchmarks.training_step import FloatTrainer, IntegerTrainer, measure
from ml.spec import DIGITS, Decoder, Positions

HEAD_WIDTH = 32
WARM_UP_STEPS = 2
PROFILES = 3
MIB = 2**20

Times = tuple[float, float]
"""Milliseconds on the wall, and of all processors."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    widths: tuple[int, ...]
    threads: int
    steps: int
    """Steps of each side."""
    layers: int = 4
    context: int = 128
    batch: int = 16


@dataclass(frozen=True, slots=True)
class Measurement:
    """One width, measured."""

    width: int
    integer: tuple[Times, ...]
    floating: tuple[Times, ...]
    """Step i of one side ran right after step i of the other."""
    integer_bytes: tuple[int, int]
    """Activations held at most, parameters and moments."""
    floating_bytes: tuple[int, int]
    profile: dict[str, int]
    """Processor nanoseconds by kind of op, least of a few runs."""


def measure_width(plan: Plan, width: int) -> Measurement:
    """Return the times of `plan.steps` alternating steps of each side, then profile and memory."""
    heads = max(1, width // HEAD_WIDTH)
    model = Decoder(256, plan.context, width, plan.layers, heads, 4 * width, int(Positions.LEARNED), 0)
    spec = replace(DIGITS, model=model, batch=plan.batch, segment_steps=10_000, learning_rate=1 << 22)
    integer, floating = IntegerTrainer(spec, plan.threads), FloatTrainer(spec, model, plan.threads)
    for _ in range(WARM_UP_STEPS):
        integer.step()
        floating.step()
    held = integer.step().bytes_held_max
    times = [(measure(integer.step), measure(floating.step)) for _ in range(plan.steps)]
    profiles: list[Counter[str]] = []
    for _ in range(PROFILES):
        profiles.append(Counter())
        integer.profile(profiles[-1])
    return Measurement(
        width=width,
        integer=tuple(ours for ours, _ in times),
        floating=tuple(theirs for _, theirs in times),
        integer_bytes=(held, integer.measure_state_bytes()),
        floating_bytes=(floating.measure_saved_bytes(), floating.measure_state_bytes()),
        profile={kind: min(profile[kind] for profile in profiles) for kind in profiles[0]},
    )


def run_speed(plan: Plan, say: Callable[[str], None]) -> str:
    """Return the results page of a plan, telling `say` of each width."""
    machine, found = describe_run(), []
    for width in plan.widths:
        say(f"width {width}: {plan.steps} steps of each side")
        found.append(measure_width(plan, width))
    return render_page(plan, found, machine)


def render_page(plan: Plan, found: Sequence[Measurement], machine: str) -> str:
    """Return the Markdown page."""
    header = ("width", "clock", "integer, ms", "float32, ms", "ratio", "10 % to 90 %", "of the least")
    rows = [row for each in found for row in (_make_row(each, 0, "wall"), _make_row(each, 1, "processor"))]
    memory = ("width", "integer activations", "float32 activations", "integer state", "float32 state")
    parts = [
        "# Speed: an integer step beside a float32 step",
        f"`mathesis lab speed` on {machine}",
        f"Byte decoder of {plan.layers} layers, heads of {HEAD_WIDTH}, context {plan.context}, batch {plan.batch}, "
        f"hidden four "
        f"times the width; {plan.threads} threads each, {plan.steps} steps of both sides in turn. float32 is PyTorch "
        f"with fused "
        "attention and fused AdamW. Medians; a ratio is the median over the pairs of steps.",
        format_table(header, rows),
        "Memory: the most bytes of activations and gradients held at one time (float32: what the forward pass saves "
        "for the "
        "backward pass), and parameters with both moments.",
        format_table(memory, [_make_memory_row(each) for each in found]),
    ]
    for each in found:
        parts += [f"Where an integer step of width {each.width} goes, processor time:", _render_profile(each)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _make_row(found: Measurement, clock: int, name: str) -> tuple[str, ...]:
    ours, theirs = ([times[clock] for times in side] for side in (found.integer, found.floating))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    tenths = quantiles(ratios, n=10) if len(ratios) > 1 else ratios * 9
    return (
        f"{found.width}",
        name,
        f"{median(ours):.1f}",
        f"{median(theirs):.1f}",
        f"{median(ratios):.2f}",
        f"{tenths[0]:.2f} to {tenths[-1]:.2f}",
        f"{min(ours) / min(theirs):.2f}",
    )


def _make_memory_row(found: Measurement) -> tuple[str, ...]:
    sides = (found.integer_bytes[0], found.floating_bytes[0], found.integer_bytes[1], found.floating_bytes[1])
    return f"{found.width}", *(f"{size_bytes / MIB:.1f} MiB" for size_bytes in sides)


def _render_profile(found: Measurement) -> str:
    total = sum(found.profile.values())
    ordered = sorted(found.profile.items(), key=lambda item: -item[1])
    return format_table(
        ("op", "ms", "share"),
        [(kind, f"{took_ns / 1e6:.2f}", f"{100 * took_ns / total:.1f} %") for kind, took_ns in ordered],
    )
