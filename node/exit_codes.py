"""The exit codes of every command, in one table, and the error that ends a command with one of them.

Imports nothing heavy; the command line prints `CommandError` as one line on standard error.
"""

from enum import IntEnum

from chain.errors import MathesisError


class ExitCode(IntEnum):
    """What a command tells the shell."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    DIRECTORY_IN_USE = 3
    PORT_BUSY = 4
    DISK_FULL = 5
    CORRUPT_DATABASE = 6
    VERIFICATION_REFUSED = 7
    NODE_UNREACHABLE = 8

    @property
    def meaning(self) -> str:
        """Say in a few words when a command ends so."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILURE: "failed; the last line on standard error says why",
    ExitCode.USAGE: "wrong command, option or argument",
    ExitCode.DIRECTORY_IN_USE: "another process holds the data directory",
    ExitCode.PORT_BUSY: "a port is taken by another program",
    ExitCode.DISK_FULL: "no space left for the data directory",
    ExitCode.CORRUPT_DATABASE: "the database is damaged or of another network",
    ExitCode.VERIFICATION_REFUSED: "a proof, header, ticket, balance, data set or checkpoint is not what it claims",
    ExitCode.NODE_UNREACHABLE: "no node answers at that address",
}


class CommandError(MathesisError):
    """A command cannot go on; carries the exit code that it ends with."""

    def __init__(self, code: ExitCode, message: str) -> None:
        """Keep the `code`; `message` is the one line a person reads."""
        super().__init__(message)
        self.code = code
