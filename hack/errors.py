"""The ways in which the development tools fail, one class per reaction of whoever started them.

Raised everywhere in `hack`; the command lines print the message as it is and exit with `exit_code`.
"""


class ToolError(Exception):
    """One clear sentence for the person at the terminal, never a traceback."""

    exit_code = 1


class WrongSetting(ToolError):
    """A value from outside (environment, option) can't be used: the caller mends it and starts again."""

    exit_code = 2


class BuildFailed(ToolError):
    """The control plane's programs, or the Go that builds them, could not be made."""


class StartFailed(ToolError):
    """A program did not become ready."""


class KindUnavailable(StartFailed):
    """No container engine answers, or kind's cluster does not come up: another cluster is taken. Reads as a clause."""


class DaemonDied(StartFailed):
    """A program ended by itself while it was waited for; `tail` is the end of its log."""

    def __init__(self, message: str, *, tail: str) -> None:
        super().__init__(message)
        self.tail = tail
