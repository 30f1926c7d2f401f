"""From the errors of models, data and runs to the exit codes of commands.

Every command that reads a spec, a data set or a checkpoint runs inside `end_in_exit_codes`. Imports are of error types
alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from chain.errors import DecodeError, StorageError
from node.exit_codes import CommandError, ExitCode

_CODES = {
    "unknown-spec": ExitCode.USAGE,
    "bad-spec": ExitCode.USAGE,
    "bad-data": ExitCode.USAGE,
    "bad-rule": ExitCode.USAGE,
    "malformed": ExitCode.USAGE,
    "unknown-dataset": ExitCode.USAGE,
    "bad-file": ExitCode.VERIFICATION_REFUSED,
    "wrong-digest": ExitCode.VERIFICATION_REFUSED,
    "wrong-hash": ExitCode.VERIFICATION_REFUSED,
    "wrong-root": ExitCode.VERIFICATION_REFUSED,
}
"""By the rules of ModelError and DatasetError; all others are failures."""


@contextmanager
def end_in_exit_codes() -> Iterator[None]:
    """Turn what a command meets into a CommandError with the right code."""
    from node.datasets.errors import DatasetError
    from node.models.errors import ModelError

    try:
        yield
    except (ModelError, DatasetError) as error:
        raise CommandError(_CODES.get(error.rule, ExitCode.FAILURE), str(error)) from None
    except DecodeError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from None
    except ModuleNotFoundError as error:
        raise CommandError(ExitCode.FAILURE, f"found no {error.name}, expected it; install mathesis[train]") from None
    except StorageError as error:
        if "is in use by" not in str(error):
            raise
        raise CommandError(ExitCode.DIRECTORY_IN_USE, str(error)) from None
