"""`mathesis lab perturb`: real nodes, disturbed as a manifest says, and whether they end on one chain.

What disturbs and judges is `benchmarks.lab.perturb`; here are its options, and what ends in which exit code.
"""

from pathlib import Path

import click

from node.cli.failures import end_in_exit_codes
from node.cli.lab_options import base_port_option
from node.cli.output import json_option, print_record
from node.exit_codes import CommandError, ExitCode

MANIFESTS = Path(__file__).resolve().parents[2] / "benchmarks/lab/perturb/manifests"


@click.command()
@click.argument(
    "manifest", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=MANIFESTS / "storm.toml"
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".perturb"),
    show_default=True,
    help="Where the nodes keep their files; emptied first.",
)
@click.option("--loopback", is_flag=True, help="All nodes on loopback, even where they could have namespaces.")
@base_port_option(4_710, "On loopback.")
@click.option(
    "--timeout", "timeout_s", type=click.IntRange(10, 36_000), default=900, show_default=True, help="Seconds."
)
@json_option
def perturb(manifest: Path, directory: Path, base_port: int, timeout_s: int, *, loopback: bool, is_json: bool) -> None:
    """Kill, pause, restart and disconnect real nodes as MANIFEST says; they must end on one chain."""
    with end_in_exit_codes():
        import asyncio

        from benchmarks.lab.perturb.cables import Cables, LoopbackCables, NamespaceCables, can_use_namespaces
        from benchmarks.lab.perturb.manifest import ManifestError, read_manifest
        from benchmarks.lab.perturb.run import DisturbedNetwork

        try:
            plan = read_manifest(manifest)
        except ManifestError as error:
            raise CommandError(ExitCode.USAGE, str(error)) from None
        has_namespaces = not loopback and can_use_namespaces()
        if plan.needs_namespaces and not has_namespaces:
            message = "a manifest that disconnects nodes needs network namespaces: root on Linux, with `ip`"
            raise CommandError(ExitCode.USAGE, message)
        cables: Cables = NamespaceCables(plan.nodes) if has_namespaces else LoopbackCables(base_port)
        try:
            network = DisturbedNetwork(
                plan, cables, directory, timeout_s, lambda line: None if is_json else click.echo(line)
            )
            verdict = asyncio.run(network.run())
        finally:
            cables.remove()
        record: dict[str, object] = {
            "place": "namespaces" if has_namespaces else "loopback",
            "height": verdict.height,
            "seconds": round(verdict.seconds, 1),
            "steps": len(plan.steps),
            "restarts": verdict.restarts,
            "problems": list(verdict.problems),
        }
        print_record(record, is_json)
        if verdict.problems:
            raise CommandError(ExitCode.FAILURE, f"{verdict.problems[0]}; logs are in {directory}")
