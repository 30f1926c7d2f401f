"""The attack suite: gathers the cases of every family, runs them, and makes their table.

A family is a module of this package with a tuple `ATTACKS`. It knows no attack.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter

from benchmarks.lab.attacks.case import Attack, Effort, Outcome, is_as_expected
from benchmarks.lab.tables import describe_run, format_table

FAMILIES = ("trajectory", "commitment", "challenge", "audits", "lottery", "algebra", "determinism")
"""Modules of this package, in the order of the page."""

HEADER = ("threats", "attack", "expected", "tried", "detected", "computed", "cost / honest", "gain", "outcome")

Report = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Result:
    """A case with what came of it."""

    family: str
    attack: Attack
    outcome: Outcome
    seconds: float

    @property
    def is_as_expected(self) -> bool:
        """Say whether the case ended as it has to."""
        return is_as_expected(self.attack, self.outcome)


def load_attacks(rows: Sequence[int] = ()) -> tuple[tuple[str, Attack], ...]:
    """Return (family, attack) of every case, or of those that stand for one of the threats `rows`."""
    found: list[tuple[str, Attack]] = []
    for family in FAMILIES:
        attacks: tuple[Attack, ...] = import_module(f"{__package__}.{family}").ATTACKS
        found += [(family, attack) for attack in attacks if not rows or set(rows) & set(attack.rows)]
    return tuple(found)


def run_suite(attacks: Sequence[tuple[str, Attack]], effort: Effort, report: Report) -> tuple[Result, ...]:
    """Return the results of all cases in order; `report` hears of each as it ends."""
    results: list[Result] = []
    for number, (family, attack) in enumerate(attacks, start=1):
        start_s = perf_counter()
        result = Result(family, attack, attack.run(effort), perf_counter() - start_s)
        results.append(result)
        mark = "ok" if result.is_as_expected else "NOT AS EXPECTED"
        report(f"{number}/{len(attacks)}  {family}: {attack.name}: {mark}, {result.seconds:.1f} s")
    return tuple(results)


def make_record(result: Result) -> dict[str, object]:
    """Return a result as the fields of a JSON object."""
    attack, outcome = result.attack, result.outcome
    return {
        "family": result.family,
        "threats": list(attack.rows),
        "attack": attack.name,
        "tries": attack.tries,
        "expected": attack.expected,
        "endings": [ending.value for ending in attack.endings],
        "tried": outcome.tried,
        "detected": outcome.detected,
        "computed": outcome.computed,
        "cost_ratio": outcome.cost_ratio,
        "gain": outcome.gain,
        "verdict": outcome.verdict,
        "is_as_expected": result.is_as_expected,
        "seconds": round(result.seconds, 3),
    }


def render_page(results: Sequence[Result], effort: Effort) -> str:
    """Return the Markdown page: one table a family, and what each case tried below it."""
    setting = (
        f"`mathesis lab attacks`, {effort.trials} trials where chance decides, seed {effort.seed}; {describe_run()}"
    )
    parts = ["# Attacks", setting, LEGEND]
    for family in FAMILIES:
        of_family = [result for result in results if result.family == family]
        if of_family:
            parts += [f"## {family.capitalize()}", format_table(HEADER, [_format_row(result) for result in of_family])]
            # Cases that put one attempt before several judges describe it once.
            attempts = {result.attack.tries: result.attack.name.split(":")[0] for result in of_family}
            parts.append("\n".join(f"- *{name}*: {tries}" for tries, name in attempts.items()))
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


LEGEND = """Threats have the numbers of docs/protocol.md. Detected: attempts that a rule found; beside it the chance
computed for one attempt, where chance decides. Cost: the attacker's work over honest work for the same reward. Gain:
what the attack is expected to bring beyond honest work, in rewards of one segment. Some cases are expected to be
accepted: they show what an attack lives on where a rule is missing."""


def _format_row(result: Result) -> tuple[str, ...]:
    attack, outcome = result.attack, result.outcome
    verdict = outcome.verdict if result.is_as_expected else f"**not as expected**: {outcome.verdict}"
    return (
        ", ".join(map(str, attack.rows)),
        attack.name,
        attack.expected,
        str(outcome.tried),
        f"{outcome.detected} ({outcome.rate:.2%})",
        "-" if outcome.computed is None else f"{outcome.computed:.2%}",
        "-" if outcome.cost_ratio is None else f"{outcome.cost_ratio:.3g}",
        "-" if outcome.gain is None else f"{outcome.gain:+.3g}",
        verdict,
    )
