"""`torchrun ... -m node.training.distributed SPEC`: one run by several processes, on one machine or more.

torchrun starts the processes and ends them all when one fails. Each builds the same plan; the first leads the run of
`node.training.loop` and writes its files, the others follow. The files are those of `mathesis train`, byte for byte.
"""

import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import torch.distributed as dist

from chain.errors import MathesisError
from ml.sharding import cut_batch
from node.backends import NAMES, make_backend
from node.cli.failures import end_in_exit_codes
from node.cli.main import get_exit_code
from node.cli.output import json_option
from node.datasets import load_dataset
from node.exit_codes import CommandError, ExitCode
from node.models.specs import find_spec
from node.training.exchange import TRANSPORTS, LostProcess, TorchExchange, Traffic, open_exchange
from node.training.loop import Schedule, Watch, train
from node.training.metrics import make_run_record
from node.training.plan import Plan, fit_spec, make_plan, parse_seed
from node.training.processes import LEADER, Leader, check_plan, follow, lead
from node.training.run_directory import open_run
from node.training.show import make_plain, print_json

STOPPING = (signal.SIGINT, signal.SIGTERM)
STOPPING_TIMEOUT_S = 15
"""Half of what torchrun waits before it kills."""


class ProcessesRecord(msgspec.Struct, frozen=True, tag_field="event", tag="processes"):
    """What the exchanges of a run cost the first process: bytes and times of a step, the mean of all but the first."""

    processes: int
    transport: str
    steps: int
    sum_bytes: int
    max_bytes: int
    exchanges: int
    step_ms: float
    starting_ms: float
    waiting_ms: float


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    spec: str
    data: str | None
    steps: int | None
    out: str | None
    is_resuming: bool
    backend: str
    threads: int | None
    checkpoint_every: int
    evaluate_every: int
    keep: int
    seed: str | None
    transport: str
    timeout_s: int
    is_json: bool


@click.command()
@click.argument("spec")
@click.option("--data", help="Data set: a name, a manifest (.json) or a text file. Named specs have one of their own.")
@click.option("--steps", type=click.IntRange(1, 65_535), help="Steps of the whole run; the spec's by default.")
@click.option("--out", help="Directory that the first process writes; runs/SPEC by default.")
@click.option("--resume", "is_resuming", is_flag=True, help="Go on from the last checkpoint in the directory, if any.")
@click.option("--backend", type=click.Choice(NAMES), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1, 1024), help="Of the cpu backend, a process; shares the cores evenly.")
@click.option("--checkpoint-every", type=click.IntRange(0), default=0, help="Steps; 0 at the end alone.")
@click.option("--evaluate-every", type=click.IntRange(0), default=0, help="Steps; 0 at the end alone.")
@click.option("--keep", type=click.IntRange(0), default=3, show_default=True, help="Checkpoints that stay; 0 for all.")
@click.option("--seed", help="Of batches and rounding, up to 64 hex digits; follows from spec and data by default.")
@click.option("--transport", type=click.Choice(TRANSPORTS), default="gloo", show_default=True)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(1, 86_400),
    default=600,
    show_default=True,
    help="Seconds after which a silent process counts as lost.",
)
@json_option
def command(**values: object) -> int:
    """Train SPEC (a name or a JSON file) by the processes that torchrun starts."""
    return run(msgspec.convert(values, Options))


def run(options: Options) -> int:
    """Do this process's part of the run and return its exit code; raises CommandError, LostProcess, Disagreement."""
    with end_in_exit_codes(), open_exchange(options.transport, options.timeout_s) as exchange:
        plan = _make_plan(options)
        try:
            cut_batch(plan.spec.batch, exchange.size)
        except MathesisError as error:
            raise CommandError(ExitCode.USAGE, str(error)) from None
        check_plan(plan, exchange)
        stopped_by = _catch_signals(exchange)
        if exchange.rank != LEADER:
            follow(plan, exchange)
            return ExitCode.OK
        step = _lead(plan, exchange, options, stopped_by)
        return 128 + stopped_by[0] if stopped_by and step < plan.spec.segment_steps else ExitCode.OK


def _catch_signals(exchange: TorchExchange) -> list[int]:
    """Return a list that gets the signals that come.

    torchrun gives them to all processes, when a person stops it and when a process has failed. In the first case the
    first process decides after which step it stops, and tells; in the second an exchange will not end by itself.
    """
    stopped_by: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        stopped_by.append(number)
        exchange.hurry(STOPPING_TIMEOUT_S)

    for number in STOPPING:
        signal.signal(number, on_signal)
    return stopped_by


def _make_plan(options: Options) -> Plan:
    named = find_spec(options.spec)
    data = options.data or named.data
    if not data:
        raise CommandError(ExitCode.USAGE, f"found no --data, expected a data set for {named.name}")
    spec = fit_spec(named.spec, options.steps or named.spec.segment_steps)
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    backend = make_backend(options.backend, options.threads or max(1, cores))
    seed = None if options.seed is None else parse_seed(options.seed)
    return make_plan(spec, load_dataset(data, spec.heldout), backend, seed)


def _lead(plan: Plan, exchange: TorchExchange, options: Options, stopped_by: list[int]) -> int:
    """Run the first process's part and return the steps done."""
    out = Path(options.out or Path("runs") / Path(options.spec).stem).expanduser()
    record = make_run_record(plan)
    show = print_json if options.is_json else make_plain(record)
    schedule = Schedule(options.checkpoint_every, options.evaluate_every, options.keep)
    runner = plan.make_runner()
    with ExitStack() as stack:
        leader = stack.enter_context(lead(exchange, exchange.reset_traffic))
        held = stack.enter_context(open_run(out, plan, options.is_resuming))
        show(record)
        state = train(plan, runner, held, schedule, Watch(show, lambda: bool(stopped_by)), leader.run_step)
    if options.is_json and leader.steps:
        click.echo(msgspec.json.encode(_make_costs(leader, exchange.traffic, options.transport)).decode())
    return state.step


def _make_costs(leader: Leader, traffic: Traffic, transport: str) -> ProcessesRecord:
    steps = leader.steps
    times = [round(spent_ns / steps / 1e6, 3) for spent_ns in (leader.busy_ns, traffic.starting_ns, traffic.waiting_ns)]
    sizes = traffic.sum_bytes // steps, traffic.max_bytes // steps, traffic.exchanges // steps
    return ProcessesRecord(leader.exchange.size, transport, steps, *sizes, *times)


def main() -> int:
    """Run the command line and return its exit code; every error is one line on standard error."""
    try:
        result: object = command.main(prog_name="node.training.distributed", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (MathesisError, OSError) as error:
        click.echo(f"mathesis: {error}", err=True)
        if isinstance(error, LostProcess) or dist.is_initialized():
            # The usual way out would wait for threads that still wait for another process.
            sys.stdout.flush()
            os._exit(get_exit_code(error))
        return get_exit_code(error)
    return result if isinstance(result, int) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
