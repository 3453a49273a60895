"""The errors of the development tools: one class for each reaction of the person who started them.

Raised everywhere in `hack`. The command lines print the message as it is, and exit with `exit_code`.
"""


class ToolError(Exception):
    """An error that is shown as one sentence, without a traceback."""

    exit_code = 1


class WrongSetting(ToolError):
    """A value from outside (environment, option) can't be used: correct it and start again."""

    exit_code = 2


class BuildFailed(ToolError):
    """A Go program, or the Go that builds it, could not be built or fetched."""


class StartFailed(ToolError):
    """A program did not become ready."""


class KindUnavailable(StartFailed):
    """No container engine answers, or the kind cluster does not start: another cluster is used. The message is a clause."""


class DaemonDied(StartFailed):
    """A program ended before it was ready. `tail` is the end of its log."""

    def __init__(self, message: str, *, tail: str) -> None:
        super().__init__(message)
        self.tail = tail
