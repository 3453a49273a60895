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


class ProviderError(EmbeddingError):
    """A call to the provider failed. `code` is the provider's own code for it, such as "503 UNAVAILABLE", or empty."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class ProviderUnavailable(ProviderError):
    """It is away, overloaded or broken, or its answer is: wait and try again."""


class ProviderThrottled(ProviderError):
    """Quota: the whole provider rests for `retry_after_s` (None: as long as we think right); nobody is charged."""

    def __init__(
        self, message: str, *, code: str = "", retry_after_s: float | None = None, quota_exhausted: bool = False
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s
        self.quota_exhausted = quota_exhausted


class ProviderMisconfigured(ProviderError):
    """A key, a right or a model is wrong: someone must act, and every call fails until then. Nobody is charged."""

    def __init__(self, message: str, *, code: str = "", reason: str = "ProviderMisconfigured") -> None:
        super().__init__(message, code=code)
        self.reason = reason


class InputRejected(ProviderError):
    """What was sent can never be embedded as it is. Of a single text: a dead letter at once."""

    def __init__(self, reason: str, message: str, *, code: str = "") -> None:
        super().__init__(message, code=code)
        self.reason = reason


class DayLimitReached(ProviderError):
    """As many texts were sent today as the source allows: no call until tomorrow, or until the limit is raised."""


class Interrupted(EmbeddingError):
    """The work was put down, not done: its source changed or went. Ask again where the source is now."""
