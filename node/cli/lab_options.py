"""What the commands of `mathesis lab` share: options of extent, names that are checked, and pages that are kept.

A command says in a helper's argument what the number means to it. It knows no experiment.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from node.exit_codes import CommandError, ExitCode

F = TypeVar("F", bound=Callable[..., object])

SEED_MAX = 2**62
RESULTS = Path("benchmarks/results")


def out_option(command: F) -> F:
    """Add `--out`: the folder of results and pages."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=RESULTS,
        show_default=True,
        help="Folder of the results.",
    )(command)


def count_option(default: int | None, help_text: str, flag: str = "--count") -> Callable[[F], F]:
    """Return what adds `--count`, or a flag like it: how many, at least one; None is for the command to fill."""
    shows_default = default is not None
    return click.option(flag, type=click.IntRange(1), default=default, show_default=shows_default, help=help_text)


def seed_option(help_text: str) -> Callable[[F], F]:
    """Return what adds `--seed`, 1 by default."""
    return click.option("--seed", type=click.IntRange(0, SEED_MAX), default=1, show_default=True, help=help_text)


def processes_option(flag: str, help_text: str = "Processes.") -> Callable[[F], F]:
    """Return what adds `--workers` or `--jobs`: how many processes at a time."""
    return click.option(flag, type=click.IntRange(1, 256), default=1, show_default=True, help=help_text)


def minutes_option(help_text: str) -> Callable[[F], F]:
    """Return what adds `--minutes`: after how long nothing more is begun."""
    return click.option("--minutes", type=click.FloatRange(0, min_open=True), help=help_text)


def threads_option(default: int = 1) -> Callable[[F], F]:
    """Return what adds `--threads`: how many threads kernels run on."""
    return click.option("--threads", type=click.IntRange(1, 1024), default=default, show_default=True)


def quick_option(help_text: str) -> Callable[[F], F]:
    """Return what adds `--quick`: so little that it shows only that everything runs."""
    return click.option("--quick", "is_quick", is_flag=True, help=help_text)


def base_port_option(default: int, help_text: str) -> Callable[[F], F]:
    """Return what adds `--base-port`: the first of a network's ports."""
    ports = click.IntRange(1024, 65_000)
    return click.option("--base-port", type=ports, default=default, show_default=True, help=help_text)


def names_option(flag: str, help_text: str) -> Callable[[F], F]:
    """Return what adds an option of names, given any number of times."""
    return click.option(flag, "names", multiple=True, help=help_text)


def choose_names(kind: str, names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the names that were given, or all that are known; raises CommandError for another."""
    for name in names:
        if name not in known:
            raise CommandError(ExitCode.USAGE, f"found no {kind} {name!r}, expected one of {', '.join(known)}")
    return list(names) or list(known)


def keep_page(path: Path, page: str) -> None:
    """Write a page where results are kept, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)
    click.echo(f"written to {path}", err=True)
