"""What a script can tell from how `mekiki` ended. This is the one place where the exit codes are written down."""

from enum import IntEnum

from mekiki import errors


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    """Everything was done."""

    FOUND = 1
    """Everything was done, and `--fail-on-anomaly` found an anomaly."""

    USAGE = 2
    """The command line, a file or a folder is not as it should be, or nobody said yes; no service changed anything."""

    REFUSED = 3
    """A service answered an error, for all or for some of what was asked."""

    UNREACHABLE = 4
    """A service does not answer or does not serve."""

    BUG = 70
    """The command itself failed; a traceback says where."""

    INTERRUPTED = 130
    """Ctrl-C."""


EPILOG = (
    "Exit codes: 0 done, 1 an anomaly was found (--fail-on-anomaly), 2 wrong usage, 3 a service answered an error, "
    "4 a service is unreachable, 70 a bug, 130 interrupted."
)


def code_of(error: errors.MekikiError) -> ExitCode:
    """The exit code for an error of the SDK."""
    unreachable = isinstance(error, errors.Unavailable | errors.DeadlineExceeded)
    return ExitCode.UNREACHABLE if unreachable else ExitCode.REFUSED
