"""Why a command did not do what it was asked, with the exit code that scripts see. Pure.

Raised by the verbs, and reported by user_connection.py, which also translates the API server's errors into these.
"""

DONE, FAILED, WRONG_USE, NOT_FOUND = 0, 1, 2, 3
"""The exit codes."""
INTERRUPTED = 130
"""A watch that was ended with Ctrl-C, as shells report it of any program."""


class CommandFailed(Exception):
    """The message says in a sentence what is wrong, and what to do."""

    code = FAILED


class WrongUse(CommandFailed):
    """The arguments, or the kubeconfig, cannot be used."""

    code = WRONG_USE


class NotFound(CommandFailed):
    """What was named does not exist."""

    code = NOT_FOUND
