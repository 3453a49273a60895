"""The tree of errors, by reaction: what the catcher has to do, never where it came from.

Each is raised at the boundary that translates it (the database, a provider), once; nothing here carries a row's text.
"""


class EmbeddingError(Exception):
    """The root of all that is ours."""


class SourceRefused(EmbeddingError):
    """Someone must act: the source waits, with this reason (CamelCase) and sentence in its conditions."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class RowsRefused(SourceRefused):
    """What some row of the statement holds may be the cause (a constraint, a trigger, a cast): ask with fewer rows, to tell."""


class DatabaseUnavailable(EmbeddingError):
    """Wait and try again: nobody is charged, nothing is lost."""


class RowsLocked(EmbeddingError):
    """Somebody holds what we need (a lock, or the winner of a deadlock): the same statement again, later."""


class ProviderUnavailable(EmbeddingError):
    """The call failed for reasons that are not the rows' own: wait and try again, nobody is charged."""


class InputRejected(EmbeddingError):
    """This row's own text can never be embedded as it is: a dead letter at once."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Interrupted(EmbeddingError):
    """The work was put down, not done: its source changed or went. Ask again where the source is now."""
