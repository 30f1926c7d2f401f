"""The root of the command line: which commands there are, and how every error ends in one line and an exit code.

Commands are named here with their summaries and loaded only when they run, so that `mathesis --help` starts fast. It
imports nothing that computes.
"""

import errno
import importlib
import signal
import sys
from collections.abc import Sequence

import click

from chain.errors import MathesisError, StorageError
from node.exit_codes import CommandError, ExitCode
from node.terminal import clean

INTERRUPTED = 128 + signal.SIGINT
"""What shells expect of a program that Ctrl-C ended before it could finish."""

COMMANDS = {
    "devnet": ("node.cli.run:devnet", "Run a development network that trains and mines on this machine."),
    "node": ("node.cli.run:node", "Run a validator node."),
    "mine": ("node.cli.run:mine", "Train and mine for a running node."),
    "status": ("node.cli.status:status", "Show a running node at a glance."),
    "wallet": ("node.cli.wallet:wallet", "Make keys, see balances, send coins."),
    "bond": ("node.cli.bond:bond", "A miner's bond: show it, post it, withdraw it."),
    "auditor": ("node.cli.auditor:auditor", "An auditor: enter on a bond, leave, show how one stands."),
    "task": ("node.cli.task:task", "What the network trains: list and show tasks, post and fund one, put up a bounty."),
    "gov": ("node.cli.gov:gov", "Decide together: lock stake, propose changes, vote."),
    "light": ("node.cli.light:light", "Verify a node's answers without trusting it."),
    "train": ("node.cli.train:train", "Train SPEC (a name or a JSON file) on this machine."),
    "model": ("node.cli.model:model", "Specs, checkpoints, text and receipts; models of the network."),
    "inference": ("node.cli.inference:inference", "Paid answers of models: ask, answer, challenge, open, close."),
    "shares": ("node.cli.shares:shares", "Shares of a model: who holds them; transfer them, claim income."),
    "dataset": ("node.cli.dataset:dataset", "List, show, get, register and send the data that models train on."),
    "db": ("node.cli.db:db", "Verify, prune, export and import what a node keeps."),
    "lab": ("node.cli.lab:lab", "Compare integer training with float32, find out what breaks, and attack the proof."),
    "doctor": ("node.cli.doctor:doctor", "Check this machine: arithmetic, clock, ports, disk."),
    "rpc": ("node.cli.rpc:rpc", "Call any method of a node."),
}

_MEANINGS = "; ".join(f"{code.value} {code.meaning}" for code in ExitCode)
EPILOG = f"Exit codes: {_MEANINGS}; 130 interrupted; 143 terminated."


class LazyGroup(click.Group):
    """A group that loads a command's module when the command runs, not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: object = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mathesis", prog_name="mathesis")
def cli() -> None:
    """Mathesis: a chain whose proof of work is the training of open models."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        result: object = cli.main(args=arguments, prog_name="mathesis", standalone_mode=False)
    except click.exceptions.Abort:
        return _fail(INTERRUPTED, "interrupted")
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE if isinstance(error, click.UsageError) else ExitCode.FAILURE
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted")
    except BrokenPipeError:
        # The reader of our output has left; the interpreter must not complain about it at exit.
        sys.stdout = None
        return ExitCode.FAILURE
    except (MathesisError, OSError, MemoryError, UnicodeEncodeError) as error:
        return _fail(get_exit_code(error), _describe(error))
    return result if isinstance(result, int) else ExitCode.OK


def _describe(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"out of memory: {str(error) or 'more than there is'}; take a smaller model, or a smaller batch"
    if isinstance(error, UnicodeEncodeError):
        # Python reads bytes of arguments and the environment that are no UTF-8 as halves of surrogate pairs. They are
        # not shown: they may be of a passphrase.
        return f"found what {error.encoding} cannot write in an argument or the environment, expected text"
    return str(error)


def get_exit_code(error: Exception) -> ExitCode:
    """Return the exit code that an error ends a command with."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, UnicodeEncodeError):
        return ExitCode.USAGE
    if isinstance(error, OSError):
        codes = {
            errno.ENOSPC: ExitCode.DISK_FULL,
            errno.EDQUOT: ExitCode.DISK_FULL,
            errno.EADDRINUSE: ExitCode.PORT_BUSY,
        }
        return codes.get(error.errno or 0, ExitCode.FAILURE)
    if isinstance(error, StorageError) and "No space left" in str(error):
        return ExitCode.DISK_FULL
    return ExitCode.FAILURE


def _fail(code: int, message: str) -> int:
    # Some of it may be what a node said.
    click.echo(f"mathesis: {clean(message)}", err=True)
    return code
