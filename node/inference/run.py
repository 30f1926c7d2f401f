"""`mathesis model serve` as a process: loads a checkpoint, listens, says where, and stops on a signal.

What fails before it listens is an error of the command; what fails later is an answer. It knows no route.
"""

import asyncio
import json
import signal
from dataclasses import dataclass
from pathlib import Path

from node.exit_codes import ExitCode
from node.inference.jobs import Jobs
from node.inference.server import InferenceServer, ServedModel
from node.inference.serving import load_receipt_maker
from node.models.state_file import read_state
from node.options import Endpoint, OutputOptions


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Which model to serve, where, and how much of it at once."""

    checkpoint: Path
    name: str
    endpoint: Endpoint
    hosts: tuple[str, ...]
    running_max: int
    waiting_max: int
    backend: str
    threads: int | None
    output: OutputOptions


def run(options: ServeOptions) -> int:
    """Serve until a signal; raises CommandError, ModelError, DecodeError or OSError before it listens."""
    maker = load_receipt_maker(read_state(options.checkpoint), options.backend, options.threads)
    model = ServedModel(options.name, maker, int(options.checkpoint.stat().st_mtime))
    asyncio.run(_serve(options, model))
    return int(ExitCode.OK)


async def _serve(options: ServeOptions, model: ServedModel) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    jobs = Jobs(options.running_max, options.waiting_max)
    server = InferenceServer(model, options.endpoint, jobs, options.hosts)
    await server.start()
    try:
        _say(options, server, model)
        await stopping.wait()
    finally:
        await server.stop()


def _say(options: ServeOptions, server: InferenceServer, model: ServedModel) -> None:
    served = model.maker.served
    facts = {
        "url": f"{server.endpoint.url}/v1",
        "model": model.name,
        "checkpoint_root": served.checkpoint_root.hex(),
        "spec_hash": served.spec_hash.hex(),
    }
    text = json.dumps(facts) if options.output.json else " · ".join(f"{name} {value}" for name, value in facts.items())
    print(text, flush=True)
